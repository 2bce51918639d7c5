"""Names in the folder of a sweep. Imports nothing."""

CSV_FILE, JSON_FILE, PICTURE_FILE = "sweep.csv", "sweep.json", "sweep.png"
POINTS = "points"  # a folder: predictions that are kept
