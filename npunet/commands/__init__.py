"""What the commands share: options, run folder, memory needs, pictures."""
