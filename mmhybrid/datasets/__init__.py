"""The embedded demo data set, drawn by code (``mmhybrid.datasets.demo``); COCO files read before a
training starts (``mmhybrid.datasets.coco``); configs fitted to folders of your own data
(``mmhybrid.datasets.fit``)."""
