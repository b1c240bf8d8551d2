"""Which of the common words name things, looks and places; all of them are in `words.WORDS`."""

from __future__ import annotations

LOOKS = ("red", "blue", "black", "white", "green", "old", "new", "big", "small", "cold", "long", "wood")

THINGS = (
    "book", "boat", "box", "bread", "car", "cat", "dog", "fish", "bird", "food", "horse", "plant", "stone",
    "door", "wall", "paper",
)  # fmt: skip

PLACES = (
    "in the garden", "in the house", "in the room", "in the city", "in the field", "on the farm",
    "at the school", "by the river", "by the sea", "on the road", "under the tree", "by the window",
    "in the snow", "on the ship", "by the fire", "at home",
)  # fmt: skip

# What lists are made of. No word that the questions use for themselves.
LISTED = (
    "back", "bird", "black", "blue", "boat", "book", "box", "boy", "bread", "call", "car", "cat",
    "change", "city", "cold", "cut", "day", "dog", "door", "early", "eat", "eye", "face", "fall",
    "farm", "fast", "feet", "field", "fire", "fish", "food", "form", "friend", "garden", "girl",
    "good", "great", "green", "half", "hand", "hard", "head", "home", "horse", "house", "keep",
    "kind", "land", "life", "light", "little", "long", "man", "men", "moon", "move", "night", "old",
    "page", "paper", "part", "people", "place", "plant", "rain", "red", "rest", "river", "road",
    "room", "run", "school", "sea", "ship", "side", "small", "snow", "star", "stone", "story",
    "talk", "tree", "walk", "wall", "water", "way", "west", "white", "wind", "window", "wood",
    "work", "year",
)  # fmt: skip
