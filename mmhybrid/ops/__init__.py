"""The operators of mmcv, written with torch, torchvision and mmhybrid's deformable attention."""
