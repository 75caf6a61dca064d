use crate::expression::compile_pattern as compile;

/// Patterns that RE2 reads otherwise than the `regex` crate does, as they match.
#[test]
fn patterns_follow_re2() {
    let cases = [
        (r"/^v\d+$/", "v12", true),
        (r"/^v\d+$/", "v٣", false),
        (r"/^\w+$/", "é", false),
        (r"/[\w.-]+@/", "a.b-c@", true),
        (r"/^feature\/.+/", "feature/x", true),
        (r"/A.C/i", "abc", true),
        (r"/a.c/", "a\nc", false),
        (r"/a.c/s", "a\nc", true),
        (r"/^b/", "a\nb", false),
        (r"/^b/m", "a\nb", true),
        (r"/\Qa+b\E/", "a+b", true),
        (r"/\Qa+b/", "a+b", true),
        (r"/[[a]b/", "[b", true),
        (r"/^[]a]+$/", "]a", true),
        (r"/^[^]a]+$/", "b", true),
        (r"/^[a&&b]+$/", "a&b", true),
        (r"/^[\s-z]+$/", "-z \t", true),
        (r"/^[\s-z]+$/", "y", false),
        (r"/^[[:alpha:]-]+$/", "a-Z", true),
        (r"/^[[:^alpha:]]+$/", "12", true),
        (r"/^[\D]+$/", "ab", true),
        (r"/\bfoo\b/", "a foo b", true),
        (r"/\Boo\b/", "a foo b", true),
        (r"/éa\B/", "éab", true),
        (r"/\-x/", "-x", true),
        (r"/\_x/", "_x", true),
        (r"/\ x/", " x", true),
        (r"/\<x\>/", "<x>", true),
        (r"/^a{,5}$/", "a{,5}", true),
        (r"/^\b{start}$/", "{start}", false),
        (r"/{x}/", "{x}", true),
        (r"/x{1/", "x{1", true),
        (r"/^x{1000}$/", &"x".repeat(1000), true),
        (r"/^\x41\x{42}\103\060$/", "ABC0", true),
        (r"/^\pN\p{Greek}\p{^Greek}\PN$/", "1αaa", true),
        (r"/^a\Cb$/", "axb", true),
        (r"/^(?i:a)b$/", "Ab", true),
        (r"/^(?i)ab$/", "AB", true),
        (r"/^(?P<n>a)(?<m>b)$/", "ab", true),
        (r"/^a+?b??c{1,2}?$/", "aac", true),
        (r"/(.{200}.{200}){0,2}x/", "x", true),
    ];
    for (pattern, text, expected) in cases {
        let compiled = compile(pattern).unwrap_or_else(|problem| panic!("{pattern}: {problem}"));
        assert_eq!(compiled.is_match(text), expected, "{pattern} on {text:?}");
    }
}

#[test]
fn what_re2_refuses_is_refused() {
    let cases = [
        "/(?!a)b/",
        "/(?=a)b/",
        "/(?<!a)b/",
        "/(a/",
        "/a)b/",
        r"/(a)\1/",
        r"/a\8/",
        "/a{1001}/",
        "/a{2,1001}/",
        "/a{99999999999}/",
        "/(a{1000}){2}/",
        "/((a{10}){10}b){11}/",
        "/a{2,1}/",
        "/*a/",
        "/a**/",
        "/a+*/",
        "/a*+b/",
        "/a{2}{3}/",
        "/a+??/",
        r"/a\Z/",
        r"/a\h/",
        r"/a\u0041/",
        r"/a\é/",
        r"/a\x4/",
        r"/a\x{110000}/",
        "/(?x)a b/",
        "/(?u:a)/",
        "/(?R)a/",
        "/(?#text)a/",
        r"/\p{greek}/",
        r"/\p{Alphabetic}/",
        r"/\p{Klingon}/",
        "/[z-a]/",
        r"/[+-\d]/",
        r"/[\b]/",
        "/[[:foo:]]/",
        "/[a/",
        r"/a\pé/",
    ];
    for pattern in cases {
        assert!(compile(pattern).is_err(), "{pattern}");
    }
}
