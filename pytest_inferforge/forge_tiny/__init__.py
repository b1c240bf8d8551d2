"""forge-tiny: the small trained model that comes with the package; what it is stands in weights/README.md."""
