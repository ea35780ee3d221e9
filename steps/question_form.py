"""Forms of question whose answers cannot be evaluated (§2.1), by how a prompt reads.

Multiple choice and true or false are guessed too easily, and a proof has no answer to compare. A form said in other
words passes. What matters is whether the prompt asks that way: a story may tell of a show that is on four times, of
dough that proves, or of ten true or false questions worth five points.
"""

import re

from steps.problem import Problem

_CHOICE = re.compile(
    r"""
    \bwhich\s+(?:(?:one|ones|two|three|\w+s?)\s+)?of\s+(?:the\s+following|these)\b
    | \b(?:choose|select|pick|mark|circle|tick)\s+(?:the\s+)?(?:correct|right|best|appropriate)\s+
      (?:answer|option|choice|one|value|statement|expression|response|word|result|solution|alternative|number|letter)s?\b
    | \b(?:choose|select|pick)\s+(?:one|the\s+\w+)?\s*(?:from|of|among)\s+the\s+(?:following|options|choices)\b
    | \b(?:answer|reply|respond)\s+(?:only\s+)?with\s+(?:only\s+)?(?:the|a|one|its)\s+(?:\w+\s+)?letter\b
    | \bletter\s+of\s+(?:the|your)\s+(?:correct|right|answer|choice|option)
    | ^[ \t]*(?:answer[ ])?(?:options|choices)[ ]?:
    """,
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)
"""Words that offer answers to choose from."""

_LABELS = {
    # Styles of label, each with where it may stand: (A), A) within a line; A., A:, too, at the beginning of one.
    "letter": re.compile(
        r"(?<![\w)])\(\s*([A-Ha-h])\s*\)|(?<![\w(])([A-Ha-h])\)|^[ \t>*-]*([A-Ha-h])[.:)](?=[\s*])", re.M
    ),
    "number": re.compile(r"(?<![\w)])\(\s*([1-8])\s*\)|(?<![\w(.])([1-8])\)|^[ \t>*-]*([1-8])[.:)](?=[\s*])", re.M),
    "roman": re.compile(r"(?<![\w)])\(\s*(i{1,3}|iv|v)\s*\)|^[ \t>*-]*(i{1,3}|iv|v)[.:)](?=[\s*])", re.M | re.I),
}
_ORDER = {"letter": "abcdefgh", "number": "12345678", "roman": ("i", "ii", "iii", "iv", "v")}
_CONNECTIVES = ("", "and", "or", "to", "through")
"""What stands between labels that only name things: points (A), (B) and (C)."""

_LONGEST_NUMBERED = 60
"""Characters of an option with a number: longer ones are steps or facts."""

_TRUTH = (
    r"(?:true\s+or\s+(?:is\s+it\s+)?false|true\s*/\s*false|t\s*/\s*f|yes\s+or\s+no|yes\s*/\s*no|right\s+or\s+wrong)"
)
_COUNTED = "questions? problems? items? quiz quizzes tests? exams? sections? parts? answers? votes?"
_NOT_COUNTED = rf"(?!\s*(?:\w+[- ]){{0,2}}?(?:{'|'.join(_COUNTED.split())})\b)"
_TRUE_OR_FALSE = re.compile(
    rf"""
    (?:^|\n|[.!?:]\s+|\(\s*){_TRUTH}\s*(?:[:?,.)—–-]|$)
    | \b{_TRUTH}\s*[?.:)\]]*\s*\Z
    | (?:^|\n|[.!?:;,]\s+|\b(?:and|then|please|to)\s+)
      (?:answer|reply|respond|state|say|decide|determine|indicate|judge|tell\s+me|write)\b[^.?!]{{0,80}}?
      (?:\b{_TRUTH}|["'“]?(?:true|yes)["'”]?\s+or\s+["'“]?(?:false|no)["'”]?){_NOT_COUNTED}
    | \bis\s+it\s+(?:true|correct|the\s+case)\s+that\b
    | \bis\s+(?:this|that|the)(?:\s+\w+)?(?:\s+(?:statement|claim|assertion|equation|inequality)\b[^.?!]{{0,40}}?)?\s+
      (?:true|false|correct)\s*(?:or\s+(?:false|incorrect|not)\s*)?\?
    | \bwhether\s+(?:the|this|that|each|it)\b[^.?!]{{0,60}}\bis\s+(?:true|false)\b
    """,
    re.IGNORECASE | re.VERBOSE,
)

_COMMAND = r"(?:^[\W\d_]{0,12}(?:\w\)\s*)?|[.!?:;,)$]\s*|\b(?i:and|then|please|hence|thus|also|now)\s+)"
"""Where an imperative stands."""

_THIRD_PERSON = (
    "wants wanted needs needed tries tried hopes hoped has had decides decided plans planned able likes used asked "
    "enough"
)
_STORY = "".join(rf"(?<!\b{verb}\s)" for verb in _THIRD_PERSON.split())
"""Before `to`, no verb of a story: she wants to show that film."""

_SCREENED = (
    r"(?!\s+(?:film|movie|video|episode|picture|slide|clip|play|trick|advert|ad|programme|program|recording|cartoon|"
    r"painting|card|photo|map|one|same|many|much)s?\b)(?!\s+\w+\s+(?:\d+\s+times|once|twice|again|every)\b)"
)
_DOUGH = r"(?!\s+(?:(?:the|this|each|all|its?|an?|your)\s+)?(?:\w+\s+)?(?:dough|bread|loaf|loaves|rolls?|buns?)\b)"
_OBJECT = (
    r"(?:\s*[:$\\]|\s+[A-Z0-9]|\s+(?:that|or\s+disprove|whether|why|by|using|the|this|these|it|your|each|all|both|every|"
    r"there|for\s+(?:all|every|each|any)|if|an?|in\s+(?:general|detail)|algebraically|geometrically|formally)\b)"
)
"""What follows `prove` where it is a proof that is asked for, and not dough that rises."""

_PROOF = re.compile(
    rf"""
    {_COMMAND}(?:(?i:show|demonstrate)\b[^.?!\n]{{0,40}}?\s(?:that\b{_SCREENED}|whether\b|why\b)
      |(?i:verify|establish|deduce)\s+that\b)
    | {_STORY}\b(?i:to)\s+(?i:show|demonstrate)\s+(?:that\b{_SCREENED}|whether\b|why\b)
    | {_COMMAND}(?i:(?:dis)?prove){_DOUGH}{_OBJECT}
    | (?:{_STORY}\b(?i:to)|\b(?i:can|could|must|should|would|you|we|I))\s+(?i:(?:dis)?prove){_DOUGH}{_OBJECT}
    | (?i:\b(?:give|write|provide|find|present|complete|construct|sketch|supply|outline|include)\s+(?:down\s+|out\s+)?
      (?:an?|the|your|another|two|full|formal|complete)\s+(?:[\w-]+\s+){{0,2}}proofs?\b
      (?!\s+of\s+(?:purchase|payment|age|identity|address|work|concept|stake)\b)
      (?=\s+(?:of|that|for|by|using|to|with|why)\b|\s*[.:,]|\s*\Z))
    | (?i:\bproof\s+(?:that\s+every|of\s+(?:the\s+)?(?:theorem|fact|statement|identity|formula|claim|lemma)))
    """,
    re.VERBOSE | re.MULTILINE,
)


def question_form(text: str) -> str | None:
    """The form for which a prompt is left out (multiple choice, true or false, proof), or None."""
    if _CHOICE.search(text) or any(_has_options(text, kind) for kind in _LABELS):
        return "multiple choice"
    if _TRUE_OR_FALSE.search(text):
        return "true or false"
    return "proof" if _PROOF.search(text) else None


def form_of(problem: Problem) -> str | None:
    """The form for which curation leaves a problem out, or None.

    What a program has to print ("yes or no") is not a form of the question: tests evaluate it. A function of one's own
    judges what its author wants it to.
    """
    return None if problem.verifier in ("code", "custom") else question_form(problem.text)


FORMS = ("multiple choice", "true or false", "proof")
"""What `question_form` can return."""


def _has_options(text: str, kind: str) -> bool:
    """Whether a text ends in a list of options: labels in order, each before some words, after the question.

    Where a question stands behind the labels, they name what it is about.
    """
    labels = _in_order(list(_LABELS[kind].finditer(text)), kind)
    if len(labels) < 2:
        return False
    ends = [label.start() for label in labels[1:]] + [len(text)]
    options = [text[label.end() : end] for label, end in zip(labels, ends, strict=True)]
    if any("?" in option or option.strip(" \t\n,;&$}{\\").lower() in _CONNECTIVES for option in options):
        return False
    before = text[: labels[0].start()].rstrip(" \t\n$\\{}*_>-(")
    asks = before.endswith(("?", "=", "= __", "__", ":", "is", "are", "…", "..."))
    if kind != "letter":
        short = all(len(option.strip()) <= _LONGEST_NUMBERED for option in options)
        return short and before.endswith("?")
    own_lines = all(not text[: label.start()].rpartition("\n")[2].strip(" \t>*-") for label in labels)
    return asks or own_lines or len(labels) >= 3


def _in_order(labels: list[re.Match[str]], kind: str) -> list[re.Match[str]]:
    """The last run of labels that counts from the first one."""
    run: list[re.Match[str]] = []
    best: list[re.Match[str]] = []
    for label in labels:
        name = next(group for group in label.groups() if group).lower()
        place = _ORDER[kind].index(name) if name in _ORDER[kind] else -1
        run = [*run, label] if place == len(run) else [label] if place == 0 else []
        best = run if len(run) >= 2 else best
    return best
