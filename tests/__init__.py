"""The test suite; a package, since some distribution installs one of the same name."""
