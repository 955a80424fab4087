"""``probe fleet run``: measure every GPU of a Ray cluster, and lose nothing that was measured.

``slots`` (what there is to measure, and what is missing) and ``journal`` are pure and know no Ray;
``remote`` is what runs on the nodes, of the standard library only; ``cluster`` is all that touches
Ray; ``archive`` brings a run folder from a node to this disk; ``drive`` is the main flow.
"""
