r"""Values of LaTeX expressions, computed by math-verify's parser and SymPy in a separate process.

    value_key(r"\sqrt{8}/2") == value_key(r"\sqrt{2}") == "1.414213562373095048801689"
    value_key("(x+1)^2") == value_key("x^2 + 2x + 1")

The key of an expression without variables is its number. The key of one with variables is its values at fixed points.
Comparing values distinguishes formulas as reliably as simplifying their difference, but takes bounded time. It is also
transitive, as votes require. Rational numbers with a denominator up to 10,000 are compared exactly, others to 25
digits. `math_verify.verify` compares expressions without numeric values.

The process has limits on time and memory. So an answer such as `9^{9^{9^9}}` fails, and nothing else is affected.
"""

from __future__ import annotations

import hashlib
import math
import re
from decimal import Context, Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any

from tasks.process import Process, Question, TooSlow, serve

__all__ = ["TooSlow", "math_verify_accepts", "number_key", "value_key", "verified"]

DENOMINATOR = 10_000
DIGITS = 25
POINTS = 4
LARGEST_EXPONENT = 400
MOST_DIGITS = 7000
"""Maximum number of digits to which a number is computed to tell it from a fraction."""
MOST_TERMS = 6
"""Maximum number of terms below a root that are factored."""
INTEGERS = "ijklmnpqMN"
"""Variables that are integers inside a rounding function."""
MODULES = ("math_verify", "latex2sympy2_extended", "sympy")


Complex = tuple[Fraction, Fraction]


def value_key(latex: str, *, projective: bool = False) -> str | None:
    """Return a key that is the same for equal expressions; None if the parser cannot read the expression.

    Args:
        latex: One expression, without delimiters and text.
        projective: Whether expressions that are multiples of each other get the same key, as needed for equations.

    Raises:
        TooSlow: If the evaluation takes more time or memory than `tasks.process` allows.
    """
    found = _ask((("latex", latex), ("projective", projective)))
    return None if found is None else str(found)


def verified(gold: str, answer: str) -> bool:
    """Return whether `math_verify.verify` accepts an answer.

    Args:
        gold: LaTeX of the gold answer.
        answer: LaTeX of the answer.

    Raises:
        TooSlow: See `value_key`.
    """
    return bool(_ask((("gold", gold), ("answer", answer))))


def math_verify_accepts(gold: str, reply: str) -> bool:
    """Return the verdict of math-verify alone, which extracts the answer from the whole reply and compares it.

    A reply on which it takes too long is wrong.

    Args:
        gold: The gold answer, with or without dollar signs.
        reply: A model's reply.
    """
    try:
        return bool(_ask((("expected", gold), ("reply", reply))))
    except TooSlow:
        return False


def _ask(question: tuple[tuple[str, str | bool], ...]) -> str | bool | None:
    found = _cached_reply(question)
    if isinstance(found, TooSlow):
        raise found
    return found


@lru_cache(maxsize=1 << 16)
def _cached_reply(question: tuple[tuple[str, str | bool], ...]) -> str | bool | TooSlow | None:
    """Return the reply, or the exception as a value, so that a slow question is computed only once."""
    try:
        found: str | bool | None = _PROCESS.ask(dict(question))
    except TooSlow as error:
        return error
    return found


def number_key(number: Fraction, *, exact: bool = False) -> str:
    """Return a number as text: exact for integers and fractions with small denominators, otherwise 25 digits.

    Args:
        number: The number.
        exact: Whether it is no approximation, so that one near an integer is not the integer.
    """
    near = number.limit_denominator(DENOMINATOR)
    close = near == number if exact else abs(number - near) <= Fraction(1, 10**DIGITS) and (near != 0 or number == 0)
    if close and abs(near.numerator).bit_length() < LARGEST_EXPONENT * math.log2(10):
        return str(near)
    context = Context(prec=DIGITS, Emax=10**9, Emin=-(10**9))
    quotient = context.divide(Decimal(number.numerator), Decimal(number.denominator))
    return str(quotient.normalize(context))


_PROCESS = Process(
    "tasks.algebra", missing="comparing mathematics needs math-verify: pip install 'bench-post-training[tasks]'"
)


def _answer(question: Question) -> str | bool:
    if "reply" in question:
        return _accepts(question["expected"], question["reply"])
    if "gold" in question:
        return _verify(question["gold"], question["answer"])
    return _key(question["latex"], projective=question["projective"])


def _parse(latex: str) -> Any:
    from latex2sympy2_extended import latex2sympy
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig

    # `3(4)` means 12, and `R` differs from `r`.
    config = ConversionConfig(interpret_as_mixed_fractions=False, lowercase_symbols=False)
    return latex2sympy(latex, is_real=None, convert_degrees=False, normalization_config=None, conversion_config=config)


def _verify(gold: str, answer: str) -> bool:
    from math_verify import verify

    return bool(verify(_parse(gold), _parse(answer), timeout_seconds=None))


def _accepts(gold: str, reply: str) -> bool:
    from math_verify import parse, verify

    # The process has its own time limit; the library's needs signals.
    delimited = re.search(r"(?<!\\)\$", gold) is not None
    expected = parse(gold if delimited else f"${gold}$", parsing_timeout=None)
    return bool(verify(expected, parse(reply, parsing_timeout=None), timeout_seconds=None))


def _key(latex: str, *, projective: bool) -> str:
    import sympy

    found = _parse(latex)
    if not isinstance(found, sympy.Expr):
        return f"expression {sympy.srepr(found)}"
    # The parser turns 0.1 into a binary floating-point number and treats the imaginary unit as a variable.
    exact: dict[Any, Any] = {f: sympy.Rational(str(f)) for f in found.atoms(sympy.Float)}
    exact |= {s: sympy.I for s in found.free_symbols if s.name == "i"}
    with sympy.evaluate(False):
        expression = found.xreplace(exact)
    if expression in (sympy.oo, -sympy.oo):
        return str(expression)
    expression = _with_absolutes(expression)
    if expression.has(sympy.Abs) and expression.free_symbols:
        return _key_of_absolutes(expression)
    points = _points(expression)
    values = _values(expression, points)
    if values is None:
        return f"expression {sympy.srepr(expression)}"
    if projective:
        scale = next((value for value in values if any(value)), (Fraction(1), Fraction(0)))
        return " ".join(_complex_key(_ratio(value, scale)) for value in values)
    if not expression.free_symbols and (beside := _beside(expression, values[0])):
        return beside
    keys = list(map(_complex_key, values))
    return keys[0] if len(set(keys)) == 1 else " ".join(keys)  # x + 1 - x is 1


def _with_absolutes(expression: Any) -> Any:
    """Return an expression with absolute values for even roots of even powers: variables are real."""
    import sympy

    def is_root(part: Any) -> bool:
        return bool(part.is_Pow and part.exp.is_Rational and part.exp.q % 2 == 0 and part.base.free_symbols)

    def absolute(root: Any) -> Any:
        base = root.base
        if base.is_Add and len(base.args) <= MOST_TERMS and base.is_polynomial():
            base = sympy.factor(base)
        powers = [factor.as_base_exp() for factor in sympy.Mul.make_args(base)]
        even = [(b, e) for b, e in powers if b.free_symbols and e.is_Integer and e % 2 == 0]
        if not even:
            return root
        rest = sympy.Mul(*(b**e for b, e in powers if (b, e) not in even))
        return sympy.Mul(*(sympy.Abs(b) ** (e * root.exp) for b, e in even)) * rest**root.exp

    return expression.replace(is_root, absolute)


def _beside(expression: Any, value: Complex) -> str | None:
    """Return the key of a real number that is near a fraction but differs from it; None for other numbers."""
    import sympy

    near = value[0].limit_denominator(DENOMINATOR)
    if value[1] or abs(value[0] - near) > Fraction(1, 10**DIGITS) or expression.is_Rational:
        return None
    difference = sympy.Add(expression, -sympy.Rational(near.numerator, near.denominator), evaluate=False)
    distance = _number(difference, {}, most=MOST_DIGITS)
    return f"{near} and {_complex_key(distance)}" if distance and any(distance) else None


def _key_of_absolutes(expression: Any) -> str:
    """Return the key of an expression with absolute values: its values at positive and at negative points.

    If they do not matter, as in |x|^2, the key is that of the expression without them.
    """
    import sympy

    points = _points(expression)
    opposite = [{variable: -value for variable, value in point.items()} for point in points]
    bare = expression.replace(sympy.Abs, lambda inner: inner)
    values, without = (_values(each, [*points, *opposite]) for each in (expression, bare))
    if values is None:
        return f"expression {sympy.srepr(expression)}"
    keys = [" ".join(map(_complex_key, part)) for part in (values[: len(points)], values[len(points) :])]
    return keys[0] if values == without else f"{keys[0]} and {keys[1]}"


def _values(expression: Any, points: list[dict[Any, Any]]) -> list[Complex] | None:
    """Return the values of an expression at some points; None if it has no finite value at one of them."""
    values = []
    for point in points:
        value = _number(expression, point)
        if value is None:
            return None
        values.append(value)
    return values


def _points(expression: Any) -> list[dict[Any, Any]]:
    """Return the points at which to evaluate an expression: the value of each variable.

    Values are positive, because most variables are counts or measures. If the expression rounds, there are more points,
    and the variables that usually are integers have integer values.
    """
    import sympy

    variables = sorted(expression.free_symbols, key=lambda s: str(s.name))
    if not variables:
        return [{}]
    whole = expression.has(sympy.floor, sympy.ceiling, sympy.Mod)
    points = []
    for number in range(2 * POINTS if whole else POINTS):
        point = {}
        for variable in variables:
            digest = hashlib.sha256(f"{number} {variable.name}".encode()).digest()
            draw = int.from_bytes(digest[:4], "big")
            integer = whole and variable.name in INTEGERS
            point[variable] = (
                sympy.Integer(5 + draw % 60) if integer else sympy.Rational(20_011 + draw % 30_000, 10_007)
            )
        points.append(point)
    return points


def _number(expression: Any, point: dict[Any, Any], most: int = 1000) -> Complex | None:
    """Return the real and imaginary part of the value, with 40 decimal places unless it is very large."""
    import sympy

    rough = expression.evalf(15, subs=point)
    size = abs(rough)
    if not (size.is_number and size.is_finite):
        return None
    exponent = int(sympy.log(size, 10).evalf(5)) if size > 1 else 0
    digits = 40 + (exponent if exponent < LARGEST_EXPONENT else 0)
    value = expression.evalf(digits, subs=point, maxn=most)
    real, imaginary = value.as_real_imag()
    if not (real.is_Number and imaginary.is_Number):
        return None
    return _without_noise(_fraction(real), _fraction(imaginary))


def _fraction(number: Any) -> Fraction:
    if number.is_Rational:
        return Fraction(int(number.p), int(number.q))
    sign, mantissa, exponent, _ = number._mpf_
    if exponent > 1 << 20 or exponent < -(1 << 20):
        raise OverflowError
    # A number with no digit of precision is what is left of terms that cancel.
    return Fraction(0) if number._prec == 1 else Fraction(int(mantissa)) * Fraction(2) ** exponent * (-1 if sign else 1)


def _without_noise(real: Fraction, imaginary: Fraction) -> Complex:
    """Return the parts of a number, with 0 for one that rounding alone has left beside the other."""
    least = max(abs(real), abs(imaginary)) / 10**35
    return real if abs(real) > least else Fraction(0), imaginary if abs(imaginary) > least else Fraction(0)


def _ratio(value: Complex, scale: Complex) -> Complex:
    (a, b), (c, d) = value, scale
    square = c * c + d * d
    return (a * c + b * d) / square, (b * c - a * d) / square


def _complex_key(value: Complex) -> str:
    real, imaginary = map(number_key, value)
    return real if imaginary == "0" else f"{real}+{imaginary}i"


if __name__ == "__main__":
    serve(_answer, MODULES)
