"""One page about a training or an evaluation: see :class:`mmhybrid.engine.ReportHook`."""
