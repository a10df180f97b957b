"""The coffer vault format as docs/format.md has it. Numbers in parentheses are sections of that document.

    conventions   1, 2     hashes, objects of a vault directory, refusals
    cbor          1.1      the CBOR profile, and tables of map keys
    seals         4, 5     derived keys, AES-256-GCM, what is sealed to the vault
    header        6        the header
    slots         7        key slots, key files
    records       8.1, 9   record objects, kinds of records, manifests
    replay        8.2, 9   the state of a vault by replay of its log
    packs         10       frames of packs
    index         11       index segments
    tree          12       nodes, leaves, entries, content lists
    vault         14       reading a vault with a key
    limits        16       limits

Left out is what reading needs nothing of: chunkers (13), writing (15), directories of packs.
"""
