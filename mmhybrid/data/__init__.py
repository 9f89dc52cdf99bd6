"""The embedded demo data set, drawn by code (``mmhybrid.data.demo``); COCO files read before a
training starts (``mmhybrid.data.coco``); configs fitted to folders of your own data
(``mmhybrid.data.fit``)."""
