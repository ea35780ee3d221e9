"""The list of units. A word behind a number that is not in it is not a unit, so that no hedge passes as one.

Units are compared as they are written: 100 cm are not the answer to a question that wants 1 m. A normal form is a
product of names and their powers: "km h^-1".
"""

import re
from collections import Counter

PERCENT = "%"

_MEASURES = """
mm millimeter millimetre | cm centimeter centimetre | dm decimeter decimetre | m meter metre | km kilometer kilometre
in inch | ft foot | yd yard | mi mile | µm micrometer micrometre micron | nm nanometer nanometre
mg milligram milligramme | g gram gramme | kg kilogram kilogramme kilo | t tonne | ton | oz ounce | lb lbs | pound
ml mL milliliter millilitre | cl cL centiliter centilitre | dl dL deciliter decilitre | l L liter litre | cc
gal gallon | qt quart | pt pint | cup | tbsp tablespoon | tsp teaspoon | bushel | acre | hectare ha
ms millisecond | s sec second | min minute | h hr hrs hour | day | week | month | yr yrs year | decade | century
J joule | kJ kilojoule | cal calorie | kcal kilocalorie | N newton | W watt | kW kilowatt | MW megawatt | kWh
V volt | A amp ampere | Ω ohm | Pa pascal | kPa kilopascal | atm | Hz hertz | kHz kilohertz | MHz megahertz
GHz gigahertz | K kelvin | mol mole | eV | bit | byte | kB KB kilobyte | MB megabyte | GB gigabyte | TB terabyte
° deg degree | rad radian | °C celsius | °F fahrenheit | rpm | unit
dollar USD buck | ¢ cent | € euro EUR | £ sterling GBP | ¥ yen JPY | yuan RMB CNY | ₹ rupee INR | peso
"""
"""Names of a unit side by side, units apart by a bar or a line. Plurals are understood; case counts in two letters."""

_COUNTED = """
acorn action adult album angle animal answer ant app apple apricot arrangement arrow bag bagel ball balloon banana
band basket battery bead bean bear bee beetle bench berry bike bill bird biscuit block boat book bottle bouquet bowl
box boy bracelet brick brownie bucket bug building bus butterfly button cage cake calculator caller camel can candle
candy car card carrot carton case cat cd chair chapter cherry chicken child chip chocolate choice circle citizen class
classroom cloud clown coin color coloring colour combination component container contestant cookie corner cow cracker
crate crayon cricket croissant cupcake customer cycle daisy desk diagonal diamond digit dinosaur dish divisor doctor
dog doll donut door dress drink drum duck dvd eagle edge egg element elephant email employee envelope error event face
factory family fan feather file finger fish flight floor flower folder fox friend frog fruit function game gerbil gift
girl glass goal goat goldfish grain grandchild grape group guest handshake hat hen home horse hotdog house human
integer invitation item jar jelly joke juice key kick kid kilo kitten lamp lap laptop lawn leaf leg lemon lesson
letter life light lime line lion loaf log lollipop machine man mango marble marker marshmallow match meal meatball
meeting member message mistake monkey mouse move movie muffin mushroom nail necklace newspaper night notebook novel
number nut object orange outcome owl oyster pack package packet page painting pancake paper parent party passenger
patient pea peach peanut pear pebble pen pencil penguin penny permutation person pet photo picture pie piece pig
pigeon pile pill pitcher pizza plane planet plant plate platter player plum pole polygon portfolio poster potato
present pretzel printer prize problem pupil puppy question rabbit raisin rectangle region reptile ribbon ride ring
road robot rock roll room rose row sack sandwich seat section seed seedling sequence serving session sheep sheet shelf
shell ship shirt shoe shop sister skip slice snake snowball soda soldier song souvenir spider spoon squirrel stamp
star step stick sticker stone story straw strawberry student subset sweet table tail tank tape teacher team term test
ticket tile tin toilet token tomato tool tooth towel toy train tray treat tree triangle trip trophy trout truck turkey
turtle uniform van vase vegetable vehicle vertex video visitor vote voter walk watermelon way weekday wheel window
winner woman word worker wrapper zebra
"""
"""Things that a problem counts. `pair`, `dozen`, `half` and `hundred` are missing: they change the number."""

_ONLY_PLURAL = frozenset(("times", "points", "squares", "cubes", "roots", "primes", "solutions", "factors", "values"))
"""In the singular these are words of arithmetic."""

_IRREGULAR = {
    "children": "child", "lives": "life", "grandchildren": "grandchild", "feet": "foot", "geese": "goose",
    "hertz": "hertz", "inches": "inch", "leaves": "leaf", "loaves": "loaf", "men": "man", "mice": "mouse",
    "people": "person", "shelves": "shelf", "teeth": "tooth", "vertices": "vertex", "women": "woman",
}  # fmt: skip
_PHRASES = {
    "years old": "yr",
    "year old": "yr",
    "degrees celsius": "°C",
    "degree celsius": "°C",
    "degrees fahrenheit": "°F",
    "degree fahrenheit": "°F",
    "° c": "°C",
    "° f": "°F",
    "° celsius": "°C",
    "° fahrenheit": "°F",
    "per cent": PERCENT,
    "ordered pairs": "ordered pair",
    "prime numbers": "prime number",
    "prime factors": "prime factor",
    "lattice points": "lattice point",
    "real solutions": "real solution",
    "real roots": "real root",
}
_SHORT = {
    "mph": (("mi", 1), ("h", -1)),
    "kph": (("km", 1), ("h", -1)),
    "kmh": (("km", 1), ("h", -1)),
    "mpg": (("mi", 1), ("gal", -1)),
}
_POWERS = {"square": 2, "sq": 2, "squared": 2, "cubic": 3, "cu": 3, "cubed": 3}
_PART = re.compile(
    r"\s*(?:(?P<word>[^\W\d_]+(?:-[^\W\d_]+)*|[°¢€£¥₹%])|\^\s*\{?\s*(?P<power>-?[1-9])\s*\}?|(?P<op>[/·.]))"
)

SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
"""Words that multiply the number before them."""

CHANGING = frozenset(
    re.findall(
        r"\S+",
        """
        dozens pairs couples halves thirds quarters fourths fifths sixths sevenths eighths ninths tenths
        elevenths twelfths hundreds hundredths thousands thousandths millions billions trillions lakhs crores
        scores tens less plus minus factors ones units this does is was has as squares cubes powers
        """,
    )
)
"""Words that no reference's number is counted in, though they look like plurals."""


def _singulars(word: str) -> tuple[str, ...]:
    """What a plural can be the plural of, most special first."""
    ways = [_IRREGULAR[word]] if word in _IRREGULAR else []
    if word.endswith("ies"):
        ways.append(word[:-3] + "y")
    if word.endswith(("ses", "xes", "ches", "shes", "oes")):
        ways.append(word[:-2])
    if word.endswith("s"):
        ways.append(word[:-1])
    return tuple(ways)


def _table() -> dict[str, str]:
    names = {noun: noun for noun in _COUNTED.split()} | {noun: noun for noun in _ONLY_PLURAL}
    for group in re.split(r"[|\n]", _MEASURES):
        for spelling in (spellings := group.split()):
            names[spelling] = spellings[0]
            if len(spelling) > 2:
                names[spelling.casefold()] = spellings[0]
    return names | {"people": "person", "pct": PERCENT, "percent": PERCENT, "%": PERCENT}


_NAMES = _table()

BARE_LETTERS = frozenset("mglsh")
"""Units of one letter that may stand outside \\text{…}, after a space."""

_BARE = frozenset(
    re.findall(
        r"\S+",
        """
        mm cm dm km ft yd mi mg kg lb lbs oz ml mL ms hr hrs min mph kph in sec yr USD kWh kW Hz kHz MHz
        """,
    )
)
"""Abbreviations that may stand outside \\text{…}, also right behind the number. Longer words may as well."""


def unit_name(word: str) -> str | None:
    """The name of a unit by one of its spellings, singular or plural; None where it is not in the list."""
    if len(word) < 3:
        return _NAMES.get(word)
    word = word if word in _NAMES else word.casefold()
    if word in _NAMES:
        return _NAMES[word]
    return next((_NAMES[one] for one in _singulars(word) if one in _NAMES and len(one) > 2), None)


def may_stand_bare(word: str) -> bool:
    """Whether letters outside \\text{…} are read as a unit, though they could be variables."""
    return word in _BARE or word in BARE_LETTERS or (len(word) > 3 and unit_name(word) is not None)


def read_unit(text: str) -> str | None:
    """The normal form of a unit as it is written behind a number; None where a part of it is not in the list."""
    powers: Counter[str] = Counter()
    prefix, sign, last = 1, 1, ""
    position, divided = 0, False
    text = " ".join(text.replace("^\\circ", "°").replace("°", " ° ").replace("{", "").replace("}", "").split())
    for phrase, meaning in _PHRASES.items():
        text = re.sub(rf"(?<!\w){re.escape(phrase)}(?!\w)", f"\x00{meaning}\x00", text, flags=re.IGNORECASE)
    while position < len(text):
        if text[position] == "\x00":
            end = text.index("\x00", position + 1)
            last = text[position + 1 : end]
            powers[last] += sign * prefix
            position, prefix, sign = end + 1, 1, 1
            continue
        match = _PART.match(text, position)
        if not match:
            return None if text[position:].strip() else _normal(powers, prefix)
        position = match.end()
        word = match["word"]
        if match["power"]:
            if not last:
                return None
            powers[last] *= int(match["power"])
        elif match["op"] in ("/", "per") or word == "per":
            if divided or not last or prefix != 1:
                return None
            divided, sign = True, -1
        elif match["op"] == ".":
            if not last:
                return None  # sq. cm and in. are written with a full stop
        elif match["op"]:
            if not last or prefix != 1:
                return None
        elif word in ("squared", "cubed"):
            if not last:
                return None
            powers[last] *= _POWERS[word]
        elif word.casefold() in _POWERS:
            if prefix != 1:
                return None
            prefix = _POWERS[word.casefold()]
            position += text[position : position + 1] == "."
        else:
            if word in _SHORT and not powers:
                powers.update(dict(_SHORT[word]))
                last = _SHORT[word][-1][0]
                continue
            name = unit_name(word)
            if name is None or name in powers or (prefix != 1 and name in ("°", PERCENT)):
                return None
            last = name
            powers[name] += sign * prefix
            prefix, sign = 1, 1
    return _normal(powers, prefix) if sign == 1 else None


def _normal(powers: Counter[str], prefix: int) -> str | None:
    if prefix != 1 or len(powers) > 3:
        return None
    counted = [name for name in powers if name in _COUNTED_NAMES]
    if len(powers) > 1 and counted and not any(power < 0 for power in powers.values()):
        return None  # apples oranges
    return " ".join(sorted(name if power == 1 else f"{name}^{power}" for name, power in powers.items()))


_COUNTED_NAMES = frozenset(_COUNTED.split()) | _ONLY_PLURAL

_AMBIGUOUS = frozenset((frozenset(("pound", "lb")), frozenset(("pound", "£"))))


def same_unit(left: str, right: str) -> bool:
    """Whether two normal forms name one unit; a unit that only one side writes is understood."""
    return not left or not right or left == right or frozenset((left, right)) in _AMBIGUOUS
