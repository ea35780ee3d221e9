"""± as the two values that it stands for."""

from steps.rewards.math.forms import Collection, Expr, Form, Operation, Unreadable, Value, negative


def without_sign(value: Value) -> Form:
    """A value with ± as its two values. Several signs could be two or four values."""
    signs = _count(value.expr)
    if not signs:
        return value
    if signs > 1:
        raise Unreadable("several signs")
    both = tuple(Value(_signed(value.expr, head), value.unit) for head in ("+", "-"))
    return Collection(both, braces=False)


def _count(expr: Expr) -> int:
    return (expr.head == "±") + sum(_count(arg) for arg in expr.args) if isinstance(expr, Operation) else 0


def _signed(expr: Expr, sign: str) -> Expr:
    if not isinstance(expr, Operation):
        return expr
    args = tuple(_signed(arg, sign) for arg in expr.args)
    if expr.head != "±":
        return Operation(expr.head, args)
    last = args[-1] if sign == "+" else negative(args[-1])
    return last if len(args) == 1 else Operation("+", (args[0], last))
