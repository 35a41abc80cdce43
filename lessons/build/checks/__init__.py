"""One function check_NAME(check) for each function of the track. They hold answers: write yours first."""
