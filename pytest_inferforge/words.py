"""Common short English words: what prompts are made of, and what forge-tiny's tokenizer knows whole."""

from __future__ import annotations

WORDS: tuple[str, ...] = tuple(
    """
    a about above across after again all also always and any are as ask at away back be because been
    before began begin best between big bird black blue boat book both box boy bread but by call came
    can car cat change city cold come could cut day did do does dog door down each early eat end even
    every eye face fall far farm fast feet few field find fire first fish five food for form found four
    friend from garden gave get girl give go good great green had half hand hard has have he head hear
    help her here high him his home horse house how if in into is it keep kind know land last learn left
    life light like line list little live long look made make man many may me men moon more most move
    must my name need never new next night no not now number of off often old on once one only open or
    other our out over own page paper part people place plant put rain read red rest right river road
    room run said same saw say school sea second see seed set she ship short should show side sing small
    snow so some soon star start still stone stop story take talk tell ten than that the their them then
    there these they thing think this those three through time to told too tree turn two under until up
    us use very walk wall want was water way we well went were west what when where which while white
    who why will wind window with without wood word work would write year yes you your
    """.split()  # noqa: SIM905 - a page of quotation marks reads worse
)
