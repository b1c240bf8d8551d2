"""How good the replies are: what is asked, and whether a reply is right."""
