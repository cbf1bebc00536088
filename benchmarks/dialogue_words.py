"""The words that made-up conversations are made of."""

from typing import NamedTuple


class Topic(NamedTuple):
    """Something that people have or like: how it is told, asked in the same words, and asked in others."""

    statement: str
    question: str
    paraphrase: str
    values: tuple[str, ...]


class Happening(NamedTuple):
    """Something with an outcome, which is told a turn later and in words that could be about anything."""

    opening: str
    replies: tuple[str, ...]
    outcomes: tuple[str, ...]
    question: str


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST_NAMES = _words(
    """
    Ada Bruno Carla Dmitri Elif Farid Greta Hamid Ines Jonas Katya Liam Mara Nadia Oskar Petra Quentin Rosa Samir Tilda
    Ulrich Vera Wanda Xenia Yusuf Zora Anselm Birgit Cosmo Delia Emeka Fiona Goran Hilde Ivo Jolana Kasimir Leona Mirko
    Noor Odile Pavel Rafael Selma Timo Ursula Viktor Wilma Yara Zeno Agnes Boris Celeste Darius Edda Florin Gesine
    Henrik Ilka Jasper Kirsten Lorenz Malin Nils Orla Piet Ragna Silas Thea Udo Valentin Wiebke Anouk Bastian Corinna
    """
)
LAST_NAMES = _words(
    """
    Abel Brandt Castell Dorn Ekberg Falk Gerlach Holm Iversen Jansen Keller Lund Moser Nyman Olsen Petrov Quist Rask
    Stein Thal Urban Voss Weber Ziegler Arndt Bloch Conrad Drexler Engel Frey Gross Hagen Ilg Jung Krug Lenz Marx Noll
    Ott Pohl Ritter Sand Tiefen Unger Veit Wolff Zahn Auer Beil Claus Dietz Ernst Fink Graf Horn Isen Jost Kern Lux
    Merz Neff Opitz Paul Reuter Senn Toth Ulm Vogt Witt Zorn Adler Busch Cramer Doll Ebert
    """
)
CITIES = _words(
    """
    Bergen Porto Ghent Tartu Lviv Malaga Turku Graz Parma Leeds Cork Basel Lyon Gdansk Brno Split Varna Kaunas Aarhus
    Uppsala Bilbao Siena Trier Utrecht Coimbra Patras Szeged Kosice Maribor Tromso Galway Dundee Nantes Arles Cadiz
    Bari Lecce Linz Zug Jena
    """
)
ORGANISATIONS = tuple(
    f"{first} {second}"
    for first in (
        "Kestrel",
        "Lindwurm",
        "Halcyon",
        "Morrow",
        "Tessera",
        "Osprey",
        "Quarry",
        "Sable",
        "Thistle",
        "Umbra",
    )
    for second in ("Logistics", "Instruments", "Foods", "Shipping")
)
PROJECTS = _words(
    """
    Aurora Basalt Cinder Dynamo Ember Fjord Granite Horizon Indigo Juniper Krypton Lantern Meridian Nimbus Obsidian
    Pinnacle Quartz Ripple Summit Tundra
    """
)
TECHNOLOGIES = _words(
    "Erlang Fortran Clojure Haskell Kotlin Elixir Julia Prolog Scala Smalltalk OCaml Pascal Ada-95 Zig Nim"
)
SEASONS = tuple(f"the {season} of {year}" for year in (2020, 2021, 2022) for season in ("spring", "summer", "autumn"))
RARE = tuple(
    f"{article} {adjective} {noun}"
    for article, adjective in (("a", "hydraulic"), ("a", "galvanised"), ("an", "adjustable"), ("a", "portable"))
    for noun in _words("""
    carburettor centrifuge chandelier crankshaft dehumidifier galvanometer gramophone hygrometer kaleidoscope
    manometer metronome oscilloscope pantograph periscope potentiometer rheostat spectrometer stethoscope tachometer
    theodolite thermocouple turntable velocipede ventilator
    """)
)
TOPICS = (
    Topic(
        "{p} has adopted a {v}.",
        "What has {p} adopted?",
        "Which animal lives at {p}'s home?",
        ("greyhound", "tabby cat", "parakeet", "tortoise", "ferret", "terrier"),
    ),
    Topic(
        "{p} is allergic to {v}.",
        "What is {p} allergic to?",
        "Which food should not be served to {p}?",
        ("peanuts", "shellfish", "celery", "lupin", "sesame", "mustard"),
    ),
    Topic(
        "{p} always orders {v} at the counter.",
        "What does {p} always order?",
        "Which drink should be bought for {p}?",
        ("a flat white", "peppermint tea", "ginger beer", "an espresso", "buttermilk"),
    ),
    Topic(
        "{p} plays the {v} in a small ensemble.",
        "Which instrument does {p} play?",
        "What kind of music lessons did {p} have?",
        ("oboe", "violoncello", "harpsichord", "bassoon", "lute"),
    ),
    Topic(
        "{p} drives an old {v} to the office.",
        "What does {p} drive?",
        "Which vehicle belongs to {p}?",
        ("Saab", "Lancia", "Wartburg", "Citroen", "Volvo estate"),
    ),
    Topic(
        "{p} trains for {v} on weekends.",
        "What does {p} train for?",
        "Which exercise keeps {p} fit?",
        ("a triathlon", "fencing", "a marathon", "rowing", "bouldering"),
    ),
    Topic(
        "{p} is reading {v} for the second time.",
        "What is {p} reading?",
        "Which novel is {p}'s favourite?",
        ("Middlemarch", "The Leopard", "Oblomov", "Effi Briest", "Buddenbrooks"),
    ),
    Topic(
        "{p} cannot stand {v}.",
        "What can {p} not stand?",
        "What is disliked by {p}?",
        ("open-plan offices", "loud restaurants", "long meetings", "wet dogs", "phone calls before nine"),
    ),
    Topic(
        "{p} was given {v} for the last birthday.",
        "What was {p} given for the birthday?",
        "Which present made {p} happy?",
        ("a telescope", "a fountain pen", "a hammock", "an atlas", "a bread oven"),
    ),
    Topic(
        "{p} wants every report as {v}.",
        "How does {p} want every report?",
        "In which format should documents for {p} be sent?",
        ("a spreadsheet", "one page of prose", "slides", "a table in the mail", "a voice message"),
    ),
)
_AND = ("And?", "How did it go?", "Tell me.", "I was wondering about that.", "Oh yes, what came of it?")
HAPPENINGS = (
    Happening(
        "{p} had the interview at {o} today.",
        _AND,
        ("They offered the post on the spot.", "It was over after five minutes, sadly.", "Nobody there was prepared."),
        "What was the result of {p}'s interview at {o}?",
    ),
    Happening(
        "{p} took the driving test in {c} this morning.",
        _AND,
        ("Failed at the roundabout, of all places.", "Not a single mistake.", "It was called off because of the ice."),
        "What was the result of {p}'s driving test in {c}?",
    ),
    Happening(
        "{p} went to see the flat by the canal in {c}.",
        _AND,
        ("Too damp, and far too dear.", "The contract is signed already.", "Somebody else was faster by an hour."),
        "What did {p} decide about the flat by the canal in {c}?",
    ),
    Happening(
        "{p} had the operation on the knee in {c} on Tuesday.",
        _AND,
        ("No complications, and home by evening.", "There was an infection afterwards.", "It was put off by a week."),
        "What do we know after {p}'s knee operation in {c}?",
    ),
    Happening(
        "{p} pitched the idea to the board of {o}.",
        _AND,
        ("They loved it and doubled the sum.", "Stony faces all around.", "A decision comes in autumn."),
        "What did the board of {o} answer to {p}'s pitch?",
    ),
    Happening(
        "{p} auditioned for the opera choir of {c}.",
        _AND,
        ("Second row, beginning next month.", "The conductor walked out.", "There is a waiting list now."),
        "What was the outcome of {p}'s audition for the opera choir of {c}?",
    ),
)
CHAT = (
    "I ran into {p} at the station in {c}.",
    "{p} sends greetings from {c}.",
    "{q} and {p} had lunch together again.",
    "Somebody from {o} called for {p}, nothing urgent.",
    "The weather in {c} was awful, says {p}.",
    "{p} laughed a lot at the party.",
    "I keep mixing up {p} and {q}.",
    "There is a new cafe near {o}.",
    "The train to {c} was late once more.",
    "Did you see the match last night?",
    "{q} asked how you are.",
    "We talked about films for an hour, and about {c}.",
    "{p} thinks that {c} is overrated.",
    "{o} has put up a new sign.",
)
