"""The experiments of §4, each one command from data to report; see `npunet.experiments.__main__`.

recipes.py    what each experiment is: data, training options, the paper's figures, what differs; and the ablations
running.py    training through npunet.train (or going on with it), probabilities and scores of the held-out images
report.py     the report, in Markdown      drawing.py    its pictures
"""
