"""What a training set looks like to the program, before training; see `npunet.inspect.__main__`."""
