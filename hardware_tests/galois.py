"""The register as arithmetic in GF(2^32), independent of the project's generator; and Berlekamp and Massey's algorithm.

A state is a polynomial with bit 31 as its constant: one clock multiplies by x modulo x^32 + x^31 + x^30 + x^10 + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

TAPS = 0x80200003
ONE = 1 << 31
ORDER = 2**32 - 1


def times_x(state: int) -> int:
    """One clock."""
    return state >> 1 ^ (TAPS if state & 1 else 0)


def multiply(a: int, b: int) -> int:
    """The product of two states: Horner's scheme from the highest power (bit 0) down."""
    product = 0
    for bit in range(32):
        product = times_x(product) ^ (a if b >> bit & 1 else 0)
    return product


def power(base: int, exponent: int) -> int:
    """base^exponent, by squarings."""
    result = ONE
    for digit in bin(exponent)[2:]:
        result = multiply(result, result)
        if digit == "1":
            result = multiply(result, base)
    return result


X = times_x(ONE)


def factors(number: int) -> list[int]:
    """Prime factors by trial division, with repetition."""
    primes, divisor = [], 2
    while divisor * divisor <= number:
        while number % divisor == 0:
            primes.append(divisor)
            number //= divisor
        divisor += 1
    return [*primes, number] if number > 1 else primes


@lru_cache
def _roots(prime: int) -> dict[int, int]:
    """Powers of x^(ORDER/prime), and which they are."""
    root, table, state = power(X, ORDER // prime), {}, ONE
    for exponent in range(prime):
        table[state] = exponent
        state = multiply(state, root)
    return table


def position(state: int) -> int:
    """n with x^n = state: how many clocks after ONE (Pohlig and Hellman; the order has small, different primes)."""
    exponent, modulus = 0, 1
    for prime in factors(ORDER):
        residue = _roots(prime)[power(state, ORDER // prime)]
        exponent += modulus * ((residue - exponent) * pow(modulus, -1, prime) % prime)
        modulus *= prime
    return exponent


def rank(rows: Sequence[int]) -> int:
    """Rank over GF(2) of rows given as integers."""
    basis: dict[int, int] = {}
    for row in rows:
        while row:
            top = row.bit_length()
            if top not in basis:
                basis[top] = row
                break
            row ^= basis[top]
    return len(basis)


def linear_complexity(bits: Sequence[int]) -> list[int]:
    """Length of the shortest register that makes the first n bits, for n = 1..len (Massey 1969)."""
    current, previous, length, since, profile = 1, 1, 0, 1, []
    window = 0
    for n, bit in enumerate(bits):
        window = window << 1 | bit
        if (current & window).bit_count() % 2:
            kept = current
            current ^= previous << since
            if 2 * length <= n:
                length, previous, since = n + 1 - length, kept, 0
        since += 1
        profile.append(length)
    return profile
