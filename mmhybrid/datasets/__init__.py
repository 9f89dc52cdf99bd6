"""The embedded demo data set, drawn by code (``mmhybrid.datasets.demo``), and COCO files read
before a training starts (``mmhybrid.datasets.coco``)."""
