//! Modules that pass calls on to another one, and change some of them: what tokens do that `SoftHSM` does not.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is passed on and what is not is said by definitions, from [`module`].
const SOURCE: &str = r#"
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
typedef unsigned long word;
typedef struct { word type; void *value; word len; } attribute;
/* CK_FUNCTION_LIST: the version, then the functions. */
static void *list[1 + 68], *inner[1 + 68];
#define CREATE_OBJECT 20
#define DESTROY_OBJECT 22
#define GET_ATTRIBUTE 24
#define GENERATE_KEY 58
#define WRAP_KEY 60
#define UNWRAP_KEY 61
static word noted(word code, const char *what) {
#ifdef LOG
    FILE *file = code == 0 ? fopen(LOG, "a") : NULL;
    if (file) { fprintf(file, "%s\n", what); fclose(file); }
#endif
    return code;
}
static word create(word session, attribute *values, word count, word *object) {
#ifdef CREATE_RETURNS
    return CREATE_RETURNS;
#endif
    word (*call)(word, attribute *, word, word *) = inner[1 + CREATE_OBJECT];
    return noted(call(session, values, count, object), "made");
}
static word destroy(word session, word object) {
    word (*call)(word, word) = inner[1 + DESTROY_OBJECT];
    return noted(call(session, object), "destroyed");
}
static word get(word session, word object, attribute *values, word count) {
#ifdef GET_RETURNS
    if (count == 1 && values[0].type == 0x11) { values[0].len = ~0ul; return GET_RETURNS; }
#endif
    word (*call)(word, word, attribute *, word) = inner[1 + GET_ATTRIBUTE];
    return call(session, object, values, count);
}
static word generate(word session, void *mechanism, attribute *values, word count, word *key) {
#ifdef GENERATE_HANGS
    for (;;) pause();
#endif
#ifdef LABEL_MAX
    for (word at = 0; at < count; at++)
        if (values[at].type == 3 && values[at].len > LABEL_MAX) return 0x13; /* CKR_ATTRIBUTE_VALUE_INVALID */
#endif
    word (*call)(word, void *, attribute *, word, word *) = inner[1 + GENERATE_KEY];
    return call(session, mechanism, values, count, key);
}
static word wrap(word session, void *mechanism, word with, word key, unsigned char *out, word *len) {
#ifdef WRAP_HANGS
    for (;;) pause();
#endif
#ifdef WRAP_RETURNS
    return WRAP_RETURNS;
#endif
    word (*call)(word, void *, word, word, unsigned char *, word *) = inner[1 + WRAP_KEY];
    word code = call(session, mechanism, with, key, out, len);
#ifdef ROOM_MORE
    if (code == 0 && !out) *len += ROOM_MORE;
#endif
#ifdef PADS
    if (code == 0) { if (out) memset(out + *len, 0x5a, 8); *len += 8; }
#endif
    return code;
}
static word unwrap(word session, void *mechanism, word with, unsigned char *in, word len, attribute *values, word count, word *key) {
#ifdef UNWRAP_HANGS
    for (;;) pause();
#endif
#ifdef UNWRAP_RETURNS
    return UNWRAP_RETURNS;
#endif
    word (*call)(word, void *, word, unsigned char *, word, attribute *, word, word *) = inner[1 + UNWRAP_KEY];
    return noted(call(session, mechanism, with, in, len, values, count, key), "made");
}
word C_GetFunctionList(void **out) {
    word (*get_list)(void **) = dlsym(dlopen(INNER, RTLD_NOW), "C_GetFunctionList");
    void *found;
    word code = get_list(&found);
    memcpy(inner, found, sizeof inner);
    memcpy(list, found, sizeof list);
    list[1 + CREATE_OBJECT] = create;
    list[1 + DESTROY_OBJECT] = destroy;
    list[1 + GET_ATTRIBUTE] = get;
    list[1 + GENERATE_KEY] = generate;
    list[1 + WRAP_KEY] = wrap;
    list[1 + UNWRAP_KEY] = unwrap;
    *out = list;
    return code;
}
"#;

/// A module that does what `inner` does, but for what these definitions (`NAME` or `NAME=VALUE`) say.
pub(crate) fn module(dir: &Path, inner: &Path, name: &str, definitions: &[&str]) -> PathBuf {
    let (source, module) = (dir.join(format!("{name}.c")), dir.join(format!("{name}.so")));
    fs::write(&source, SOURCE).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).args([&module, &source]);
    compiler.arg(format!("-DINNER={:?}", inner.to_str().unwrap()));
    compiler.args(definitions.iter().map(|definition| format!("-D{definition}")));
    let output = compiler.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    module
}
