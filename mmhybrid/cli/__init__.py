"""Commands of the package: a module each, with ``main(argv)``."""
