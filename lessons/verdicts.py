"""The choice of a diagnosis: one wrong array may have many causes, many wrong arrays together seldom more than one."""

WEAK = {None, "mixed_sign", "other_order", "rounding", "only_some_places", "border", "zeros_instead", "all_zero"}


def explaining_all(comparisons, wrong):
    """The sentence of the known mistake that agrees best with what came back, or None.

    First one that agrees in every case and every result, the right ones too; then in every case of one result; then one
    that agrees much more often than not.
    """
    names = dict.fromkeys(c.name for c in wrong)
    tables = [agreement(comparisons), *(agreement([c for c in comparisons if c.name == name]) for name in names)]
    for found in tables:
        full = {sentence: fits for sentence, (fits, against) in found.items() if fits and not against}
        if full:
            return max(full, key=full.get)
    mostly = {}
    for found in tables:
        for sentence, (fits, against) in found.items():
            mostly[sentence] = max(mostly.get(sentence, 0), fits - 2 * against)
    best = max(mostly, key=mostly.get, default=None)
    return best if best and mostly[best] > 0 else None


def agreement(comparisons):
    """{sentence: (wrong results that the mistake gives exactly, results that it does not give)}."""
    found = {}
    for sentence in dict.fromkeys(sentence for c in comparisons if c.wrong for sentence in c.mistakes):
        fits = against = 0
        for c in comparisons:
            result = c.mistakes.get(sentence)
            agrees = c.fits(result)
            if agrees is not None:
                fits += agrees and c.wrong and c.shows(result)
                against += not agrees
        found[sentence] = fits, against
    return found


def commonest(wrong):
    """(comparison, kind, sentence): the general diagnosis that most wrong cases have, where it is found first.

    It must be there in most wrong cases of its result; otherwise it is chance, and its kind is None.
    """
    for name in dict.fromkeys(c.name for c in wrong):
        here = [c for c in wrong if c.name == name]
        found = [(c, *c.general()) for c in here]
        kinds = [kind for _, kind, sentence in found if sentence]
        most = max(kinds, key=kinds.count, default=None)
        sure = most and kinds.count(most) >= 2 / 3 * len(here) and (len(here) > 1 or here[0].expected.size > 3)
        if sure and most not in WEAK:
            return next((c, kind, sentence) for c, kind, sentence in found if kind == most)
        both = [c.two_mistakes() for c in here]
        if all(both) and max(c.expected.size for c in here) > 3:
            return here[-1], "two", both[-1]
        if most and kinds.count(most) >= 1 / 2 * len(here) and here[0].expected.size > 3:
            return next((c, None, sentence) for c, kind, sentence in found if kind == most)
    return wrong[0], None, None
