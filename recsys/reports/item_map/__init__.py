"""The item map: every item as a point, like items near one another, out of any vectors of theirs.

``draw`` makes a map's files and ``files`` says where they lie; ``layout`` computes the points, ``neighbourhoods`` says
how good they are, ``attributes`` what is known of the items. ``picture`` draws for print.
"""
