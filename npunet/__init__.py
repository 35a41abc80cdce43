"""npunet: the U-Net paper (Ronneberger, Fischer, Brox 2015) in NumPy and CuPy, written by hand."""
