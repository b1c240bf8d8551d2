"""For those who test suites, servers and this package: servers with known times, and a way to drive pytest."""
