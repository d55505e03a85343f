"""The genome: the page. Constants only; visitors.py lists what each may be."""

HEADLINE = "product"     # [product|benefit|question]
BUTTON = "blue"          # [blue|green|orange]
PICTURE = "team"         # [team|screen|none]
FIELDS = 7               # of the form [2..10]
QUOTES = 0               # of customers [0..6]
COUNTDOWN = "no"         # a clock that runs out [no|yes]
