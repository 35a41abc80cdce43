"""python -m npunet.datasets: list the public data sets, or fetch them.

python -m npunet.datasets                 what there is, where it comes from and on what terms
python -m npunet.datasets isbi2012        fetch it into the data folder (NPUNET_DATA, else ~/.cache/npunet)
"""

import argparse

from npunet.commands import cli
from npunet.datasets import named


def main(arguments=None):
    parse = argparse.ArgumentParser(prog=cli.program("datasets"), description="List or fetch the public data sets.")
    parse.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(named.SETS)}; none: list them")
    names = parse.parse_args(arguments).names
    for name in names:
        print(f"{name} is in {named.find_or_fetch(name)}")
    for name in () if names else named.SETS:
        folder = named.find(name)
        print(
            f"{named.SETS[name].about()}\n  "
            f"{'found in ' + str(folder) if folder else 'not in ' + str(named.data_folder())}\n"
        )


if __name__ == "__main__":
    cli.run(main)
