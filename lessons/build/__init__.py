"""Build it yourself: the reader writes the U-Net, function by function, and trains it. See README.md."""
