"""Are the primitives linearizable?  Histories of several processes, some of them killed, and a search for an order.

    python -m tests.linear --histories 1000 --seed 1

| file | what it is |
|---|---|
| `history.py` | calls and histories, as files too |
| `search.py` | the search for an order |
| `specifications/` | what each primitive does, one step at a time |
| `subjects.py` | the primitives as they are called, at random |
| `rings.py` | where processes write down what they do, which survives them |
| `worker.py`, `conductor.py` | the processes of a history, and what starts, kills and reads them |
| `broken.py` | broken twins in Python, and the real core with a law taken out |
| `picture.py` | a history as text and as SVG |
| `recorded/` | histories that were recorded, of the primitives and of twins, for the tests |
"""
