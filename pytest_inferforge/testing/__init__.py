"""For those who test suites, servers and this package: a server with known times, a way to drive pytest."""
