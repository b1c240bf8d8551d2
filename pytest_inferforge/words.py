"""Common short English words: what prompts are made of, and what forge-tiny's tokenizer knows whole."""

from __future__ import annotations

WORDS: tuple[str, ...] = tuple(
    """
    a about above across after again all also always and animal answer any are around as ask at away back
    be because been before began begin below best better between big bird black blue boat book both box boy
    bread bring brother but by call came can car carry cat change city clean close cold come could country
    cut day did different do does dog door down draw each early earth eat end enough even every eye face fall
    family far farm fast father feet few field find fire first fish five food for form found four friend from
    garden gave get girl give go good great green ground grow had half hand hard has have he head hear heart
    help her here high hill him his home horse house how if important in into is it keep kind king know land
    large last learn left letter life light like line list little live long look made make man many may me
    mean men money moon more morning most mother mountain move much music must my name near need never new
    next night no north not now number of off often old on once one only open or other our out over own page
    paper part people place plant point put question quick rain read red rest right river road room round run
    said same saw say school sea second see seed sentence set she ship short should show side silver sing
    sister small snow so some song soon south stand star start still stone stop story street summer sun table
    take talk tell ten than that the their them then there these they thing think this those thought three
    through time to together told too town tree turn two under until up us use very voice walk wall want warm
    was watch water way we well went were west what wheel when where which while white who why will wind
    window winter wish with without wood word work world would write year yellow yes you young your
    """.split()
)
