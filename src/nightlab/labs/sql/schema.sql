-- The genome: what score.py writes to. It inserts into these three tables and updates orders.status.

CREATE TABLE customers (id INTEGER, country TEXT);

CREATE TABLE orders (id INTEGER, customer INTEGER, day INTEGER, status TEXT, amount INTEGER);

CREATE TABLE items (order_id INTEGER, product INTEGER, quantity INTEGER);

-- For latest:

-- For waiting:

-- For revenue and best:

-- For sold:

-- For any other:
