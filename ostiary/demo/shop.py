"""The shop: who works there, and its database. Everybody and everything in it is made up; the card numbers are test numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

DATABASE: Final = "shop"
ACCOUNT: Final = "shop_app"
"""The account that the gateway logs in with. It owns the tables: what is refused, is refused by the gateway."""

ANA: Final[Mapping[str, Any]] = {
    "sub": "ana",
    "name": "Ana Souza",
    "email": "ana@shop.example",
    "email_verified": True,
    "groups": ["staff", "support"],
}
DORA: Final[Mapping[str, Any]] = {
    "sub": "dora",
    "name": "Dora Lind",
    "email": "dora@shop.example",
    "email_verified": True,
    "groups": ["dba", "staff"],
}
AGENT: Final[Mapping[str, Any]] = {"sub": "agent:coder", "name": "Ana's coding agent"}

TABLES: Final = """
CREATE TABLE customers (
    id    integer PRIMARY KEY,
    name  text NOT NULL,
    email text NOT NULL,
    card  text NOT NULL,
    city  text NOT NULL
);
CREATE TABLE products (
    id    integer PRIMARY KEY,
    title text NOT NULL,
    price numeric(8, 2) NOT NULL
);
CREATE TABLE orders (
    id          integer PRIMARY KEY,
    customer_id integer NOT NULL REFERENCES customers,
    product_id  integer NOT NULL REFERENCES products,
    quantity    integer NOT NULL,
    placed      date NOT NULL,
    note        text NOT NULL DEFAULT ''
);

INSERT INTO customers VALUES
    (1, 'Mira Okafor',   'mira.okafor@mail.example', '4111111111111111', 'Porto'),
    (2, 'Jonas Lindqvist', 'jonas@lindqvist.example', '5555555555554444', 'Malmö'),
    (3, 'Wei Zhang',     'wei.zhang@post.example',   '4012888888881881', 'Trieste'),
    (4, 'Aylin Demir',   'aylin@demir.example',      '5105105105105100', 'Izmir'),
    (5, 'Tom Baptiste',  'tom.b@mail.example',       '6011111111111117', 'Lyon');

INSERT INTO products VALUES
    (1, 'Teapot, blue', 39.00), (2, 'Six cups', 24.50), (3, 'Green tea, 250 g', 11.90), (4, 'Tea towel', 8.00);

INSERT INTO orders VALUES
    (1001, 1, 1, 1, '2026-03-02', ''),
    (1002, 1, 3, 2, '2026-03-02', 'a present: please no bill in the box'),
    (1003, 2, 2, 1, '2026-03-04', 'questions to jonas@lindqvist.example'),
    (1004, 3, 3, 4, '2026-03-09', ''),
    (1005, 4, 4, 2, '2026-03-11', 'pay with 5105 1051 0510 5100 if the other card fails'),
    (1006, 5, 1, 1, '2026-03-15', '');
"""
