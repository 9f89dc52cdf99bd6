ext = 1
