"""How far long work is: events that work reports, and what shows or keeps them."""
