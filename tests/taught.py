"""What is true of the pictures that are asked about."""


def truth(pool, position):
    left = pool[position, ..., :4].mean() > pool[position, ..., 4:].mean()
    return {"left": float(left), "how much": float(min(2, int(4 * abs(pool[position].mean() - 0.5))))}
