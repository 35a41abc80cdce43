"""What the commands share: options, run folder, memory needs, pictures."""

started_as = "python -m npunet."  # what stands before a command's name in its usage line; npunet/__main__.py changes it
