"""Other people's test suites, directly and through the gateway, compared test by test. Not part of `make test`."""
