"""Commands and letters, by what they are in an expression."""

import re

FUNCTIONS = frozenset(
    re.findall(
        r"\S+",
        """
        sin cos tan cot sec csc arcsin arccos arctan arccot arcsec arccsc sinh cosh tanh coth sech csch asin
        acos atan arsinh arcosh artanh ln log lg exp sgn
        """,
    )
)
ARCUS = {"sin": "arcsin", "cos": "arccos", "tan": "arctan", "cot": "arccot", "sec": "arcsec", "csc": "arccsc"}
SAME_FUNCTION = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "lg": "log"}
APPLIED = frozenset("fghFGH")
"""Letters that are functions where brackets follow; another letter before brackets is a factor."""

GREEK = frozenset(
    re.findall(
        r"\S+",
        """
        alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma
        tau upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell hbar
        """,
    )
)
FRACTIONS = frozenset(("\\frac", "\\dfrac", "\\tfrac", "\\cfrac", "\\nicefrac", "\\sfrac", "\\flatfrac"))
BINOMIALS = frozenset(("\\binom", "\\dbinom", "\\tbinom"))
DECORATIONS = frozenset(("\\overline", "\\bar", "\\hat", "\\vec", "\\widehat", "\\overrightarrow", "\\tilde", "\\dot"))
FONTS = frozenset(("\\mathbf", "\\boldsymbol", "\\bm", "\\mathcal", "\\mathfrak", "\\mathscr"))
TIMES = frozenset(("\\cdot", "\\times", "\\ast", "*"))
ROOTS = {"\\sqrt": 2, "\\surd": 2, "\\cuberoot": 3, "sqrt": 2}
CLOSING = {"(": ")", "[": "]", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil", "\\lvert": "\\rvert"}
ENDS = frozenset((*CLOSING.values(), "}", "\\}", "\\rangle", "&"))
REPEATING = frozenset(("\\overline", "\\bar", "\\dot"))

INFIX = frozenset(
    re.findall(
        r"\S+",
        r"""
        \over \pm \mp \cup \cap \setminus \in \notin \le \leq \leqslant \ge \geq \geqslant \ne \neq \lt \gt
        \approx \cong \simeq \sim \equiv \mid \to \land \lor \wedge \vee \rvert \div \circ \prime \% \$ \| \pmod
        \bmod \mod \colon
        """,
    )
) | (TIMES - {"*"})


def product_of_letters(run: str) -> bool:
    """Whether letters side by side are a product of variables and no word: `xy`, `abc`, `prt`, but not `cat`."""
    if len(run) < 3:
        return True
    if len(set(run)) < len(run) or len(run) > 6:
        return False
    if set(run) <= set("xyz"):
        return True
    # Products are written in order and mostly of consonants.
    return (list(run) == sorted(run) and not set(run) & set("eiou")) or (len(run) == 3 and not set(run) & set("aeiouy"))
