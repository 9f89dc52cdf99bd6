"""``python -m mmhybrid COMMAND ...`` is ``mmhybrid COMMAND ...``."""

from .cli.program import main

main()
