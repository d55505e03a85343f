-- The genome: one SELECT for each question. A line "-- name: …" begins a question; its parameters are named as here.

-- name: latest
-- The last ten orders of a customer, the newest first.
SELECT id, day, amount FROM orders WHERE customer = :customer ORDER BY day DESC, id DESC LIMIT 10;

-- name: waiting
-- Open orders from before a day: how many, and worth how much.
SELECT count(*), coalesce(sum(amount), 0) FROM orders WHERE status = 'open' AND day < :day;

-- name: revenue
-- What customers of a country paid for orders of the days from :first to :last.
SELECT coalesce(sum(orders.amount), 0) FROM orders JOIN customers ON customers.id = orders.customer
WHERE customers.country = :country AND orders.day BETWEEN :first AND :last;

-- name: sold
-- How many pieces of a product were ever ordered.
SELECT coalesce(sum(quantity), 0) FROM items WHERE product = :product;

-- name: best
-- The five products with the most pieces in orders of a day; of equals the lower number first.
SELECT items.product, sum(items.quantity) AS pieces FROM items JOIN orders ON orders.id = items.order_id
WHERE orders.day = :day GROUP BY items.product ORDER BY pieces DESC, items.product LIMIT 5;
