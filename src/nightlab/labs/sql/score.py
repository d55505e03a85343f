"""Frozen: builds the genome's database, plays a day of reads and writes on it, checks each answer, and counts steps.

nightlab runs it as the evaluator; the genome is two texts, and no program of it runs. By hand: python score.py

What is counted are instructions of SQLite's virtual machine, so a number depends on the seed and on the version of
SQLite, and on nothing else of the machine. An authoriser refuses whatever would do much work in one instruction, or
reach beyond the database: PRAGMA, ATTACH, virtual tables, functions other than FUNCTIONS, writing in a query.
"""

import os
import random
import re
import sqlite3
import sys
from pathlib import Path

CUSTOMERS, ORDERS, PRODUCTS, DAYS = 200, 2_000, 80, 60  # before the day begins
ROUNDS = 25  # of the day: each has one of every question, an order and a status that changes
COUNTRIES = ("at", "br", "ca", "de", "fi", "jp")
MOST_STEPS, MOST_BYTES = 20_000_000, 20_000  # of a trial; of each of the genome's files
QUESTIONS = ("latest", "waiting", "revenue", "sold", "best")
FUNCTIONS = {"count", "sum", "total", "min", "max", "avg", "abs", "coalesce", "ifnull", "nullif", "iif", "row_number"}

READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}
WRITING = READING | {sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE}
MAKING = WRITING | {
    sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_CREATE_INDEX, sqlite3.SQLITE_CREATE_VIEW,
    sqlite3.SQLITE_CREATE_TRIGGER, sqlite3.SQLITE_REINDEX,
}  # fmt: skip


class NoMetric(Exception):
    """The genome's database can't be made, or an answer is wrong."""


class Shop:
    """The truth, in plain lists: what every question should answer."""

    def __init__(self, draw):
        self.draw, self.orders, self.items = draw, [], []
        self.customers = [(number, draw.choice(COUNTRIES)) for number in range(1, CUSTOMERS + 1)]
        draw.shuffle(self.customers)
        self.country = dict(self.customers)
        for _ in range(ORDERS):
            self.order(draw.randrange(DAYS))

    def order(self, day):
        """A new order and its items, some of which are dear. Returns both as rows."""
        number, draw = len(self.orders) + 1, self.draw
        customer = min(int(draw.expovariate(4 / CUSTOMERS)), CUSTOMERS - 1) + 1  # a few buy much
        status = draw.choice(("open", "sent", "sent", "sent", "back"))
        made = [number, customer, day, status, draw.randrange(100, 90_000)]
        products = draw.sample(range(1, PRODUCTS + 1), draw.randint(1, 5))
        items = [(number, product, draw.randint(1, 9)) for product in products]
        self.orders.append(made)
        self.items += items
        return made, items

    def ask(self):
        """One of every question, with drawn parameters, and its answer."""
        draw = self.draw
        customer, day, product = draw.randint(1, CUSTOMERS), draw.randrange(DAYS), draw.randint(1, PRODUCTS)
        country, first = draw.choice(COUNTRIES), draw.randrange(DAYS)
        last = first + draw.randint(0, 6)
        mine = sorted(((o[2], o[0], o[4]) for o in self.orders if o[1] == customer), reverse=True)[:10]
        waiting = [o[4] for o in self.orders if o[3] == "open" and o[2] < day]
        paid = [o[4] for o in self.orders if first <= o[2] <= last and self.country[o[1]] == country]
        pieces = {}
        for order, what, quantity in self.items:
            if self.orders[order - 1][2] == day:
                pieces[what] = pieces.get(what, 0) + quantity
        yield "latest", {"customer": customer}, [(number, day, amount) for day, number, amount in mine]
        yield "waiting", {"day": day}, [(len(waiting), sum(waiting))]
        yield "revenue", {"country": country, "first": first, "last": last}, [(sum(paid),)]
        yield "sold", {"product": product}, [(sum(q for _, what, q in self.items if what == product),)]
        yield "best", {"day": day}, sorted(pieces.items(), key=lambda p: (-p[1], p[0]))[:5]


class Database:
    """The genome's database, in memory, with its steps counted."""

    def __init__(self, schema):
        self.steps, self.allowed, self.tables = 0, MAKING, None
        self.link = sqlite3.connect(":memory:", isolation_level=None)
        self.link.set_authorizer(self.authorise)
        self.link.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 1_000_000)
        self.link.set_progress_handler(self.step, 1)
        for statement in statements(schema):
            self.run(statement)
        self.tables = {name.lower() for (name,) in self.run("SELECT name FROM sqlite_schema")}
        self.allowed = WRITING

    def step(self):
        self.steps += 1
        return self.steps > MOST_STEPS

    def authorise(self, action, first, second, *_):
        good = action in self.allowed
        if action == sqlite3.SQLITE_FUNCTION:
            good = second.lower() in FUNCTIONS
        elif action == sqlite3.SQLITE_READ and self.tables is not None:
            good = first.lower() in self.tables  # json_each and others are there without being made
        return sqlite3.SQLITE_OK if good else sqlite3.SQLITE_DENY

    def run(self, statement, values=()):
        try:
            return self.link.execute(statement, values).fetchall()
        except (sqlite3.Error, sqlite3.Warning) as error:
            why = f"more than {MOST_STEPS:,} steps" if self.steps > MOST_STEPS else error
            raise NoMetric(f"{' '.join(str(why).split())}, in: {in_short(statement)}") from None

    def ask(self, query, values):
        """The rows of a query, which may not write."""
        self.allowed = READING
        try:
            return self.run(query, values)
        finally:
            self.allowed = WRITING

    def add(self, order, items):
        self.run("INSERT INTO orders (id, customer, day, status, amount) VALUES (?, ?, ?, ?, ?)", order)
        for item in items:
            self.run("INSERT INTO items (order_id, product, quantity) VALUES (?, ?, ?)", item)

    def pages(self):
        self.link.set_authorizer(None)
        return self.link.execute("PRAGMA page_count").fetchone()[0]


def statements(text):
    """The statements of a text, of which a trigger's may have semicolons inside."""
    so_far = ""
    for part in re.split(r"(?<=;)", text):
        so_far += part
        if sqlite3.complete_statement(so_far):
            yield so_far
            so_far = ""
    if in_short(so_far):
        raise NoMetric(f"a statement without its end: {in_short(so_far)}")


def in_short(statement):
    """The start of a statement on one line, without comments."""
    return " ".join(re.sub(r"--.*", "", statement).split())[:120]


def read(path):
    if Path(path).stat().st_size > MOST_BYTES:
        raise NoMetric(f"{path} has more than {MOST_BYTES:,} bytes")
    return Path(path).read_text(encoding="utf-8")


def queries(text):
    """The query of each question, by name."""
    _, *parts = re.split(r"^-- name: *(\w+) *$", text, flags=re.MULTILINE)
    found = dict(zip(parts[0::2], parts[1::2], strict=True))
    if set(found) != set(QUESTIONS):
        raise NoMetric(f"queries.sql answers {', '.join(sorted(found))}; the questions are {', '.join(QUESTIONS)}")
    return found


def play(schema, questions, draw):
    """A day in a shop with the genome's database. Returns the steps of loading, writing and reading, and the pages."""
    shop = Shop(draw)
    database = Database(schema)
    for row in shop.customers:
        database.run("INSERT INTO customers (id, country) VALUES (?, ?)", row)
    at = 0
    for order in shop.orders:
        end = at
        while end < len(shop.items) and shop.items[end][0] == order[0]:
            end += 1
        database.add(order, shop.items[at:end])
        at = end
    parts = {"load": database.steps}
    for name in QUESTIONS:
        parts[name] = 0
    parts["write"] = 0
    for _ in range(ROUNDS):
        for name, values, wanted in shop.ask():
            before = database.steps
            if (found := database.ask(questions[name], values)) != wanted:
                raise NoMetric(f"a wrong answer to {name} {values}: {str(found)[:100]}, it is {str(wanted)[:100]}")
            parts[name] += database.steps - before
        before = database.steps
        database.add(*shop.order(DAYS - 1))
        changed = draw.choice(shop.orders)
        changed[3] = draw.choice(("open", "sent", "back"))
        database.run("UPDATE orders SET status = ? WHERE id = ?", (changed[3], changed[0]))
        parts["write"] += database.steps - before
    return database.steps, parts, database.pages()


def main():
    draw = random.Random(int(os.environ.get("NIGHTLAB_SEED", "0")))
    try:
        steps, parts, pages = play(read("schema.sql"), queries(read("queries.sql")), draw)
    except (NoMetric, UnicodeDecodeError) as error:
        print(f"no metric: {error}")
        sys.exit(4)
    for name, part in parts.items():
        print(f"METRIC {name}={part}")
    print(f"METRIC pages={pages}")
    print(f"METRIC steps={steps}")


if __name__ == "__main__":
    main()
