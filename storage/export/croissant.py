"""Croissant metadata of an exported corpus, which dataset search engines and loaders read.

Written by hand and not with `mlcroissant`: that package is heavy (it brings pandas and rdflib), and building its
`Metadata` resolves files over the network or the disk. The tests validate the output with it.
"""

from datetime import UTC, datetime

from storage.export.dataset_card import ExportedCorpus

_DATA_TYPES = {
    "string": "sc:Text",
    "int32": "sc:Integer",
    "int64": "sc:Integer",
    "double": "sc:Float",
    "extension<arrow.json>": "sc:Text",
}
_DESCRIPTIONS = {
    "id": "id of the record; of a human record derived from its text",
    "text": "the text",
    "origin": "human or synthetic",
    "source_generation": "generation that wrote the record; 0 for human text",
    "source": "source of the human text, or of the human record in the prompt",
    "license": "license of a human record, if stated",
    "text_hash": "first 32 hexadecimal digits of the text's SHA-256",
    "messages": "JSON: messages of a conversation, whose text is `text`; null for any other record",
    "rejected": "JSON: a response that was judged worse than the last one of `messages`, as a list of one message",
    "tools": "JSON: tools that a conversation offers",
    "weight": "weight of the record in training",
}


def croissant(corpus: ExportedCorpus) -> dict[str, object]:
    """Return the metadata after https://docs.mlcommons.org/croissant/docs/croissant-spec.html, version 1.0."""
    file = {
        "@type": "cr:FileObject",
        "@id": corpus.file,
        "name": corpus.file,
        "contentUrl": corpus.file,
        "contentSize": f"{corpus.bytes} B",
        "encodingFormat": "application/x-parquet" if corpus.file.endswith(".parquet") else "application/jsonlines",
        "sha256": corpus.sha256,
    }
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": corpus.name,
        "description": corpus.summary,
        "license": corpus.licenses or ["not stated"],
        "url": "README.md",
        "version": f"{corpus.generation}.0.0",
        "datePublished": datetime.now(UTC).date().isoformat(),
        "creator": {"@type": "sc:Organization", "name": "Heirloom", "description": f"run {corpus.run}"},
        "keywords": ["synthetic", "heirloom"],
        "citeAs": f"{corpus.title}, by Heirloom",
        "distribution": [file],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "corpus",
                "name": "corpus",
                "key": {"@id": "corpus/id"},
                "field": [_field(corpus.file, name, arrow_type) for name, arrow_type in corpus.columns],
            }
        ],
    }


def _field(file: str, name: str, arrow_type: str) -> dict[str, object]:
    return {
        "@type": "cr:Field",
        "@id": f"corpus/{name}",
        "name": name,
        "description": _DESCRIPTIONS[name],
        "dataType": _DATA_TYPES[arrow_type],
        "source": {"fileObject": {"@id": file}, "extract": {"column": name}},
    }


_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
