use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

/// One line per instruction: lines, keyword, flags, text, here-documents.
fn dump(text: &str) -> String {
    match parse(text) {
        Ok(syntax) => syntax.nodes.iter().map(dump_node).collect(),
        Err(error) => format!("{error}\n"),
    }
}

fn dump_node(node: &Node) -> String {
    let heredocs: String = node.heredocs.iter().map(|doc| format!(" <{} expand={} {:?}>", doc.name, doc.expand, doc.body)).collect();
    format!("{}-{} {} {:?} {}{heredocs}\n", node.lines.start(), node.lines.end(), node.keyword, node.flags, node.text)
}

#[expect(clippy::needless_pass_by_value, reason = "expect! makes a value")]
#[track_caller]
fn check(text: &str, expected: Expect) {
    expected.assert_eq(&dump(text));
}

#[test]
fn comments_and_continuations() {
    check(
        "# a comment\n\n  FROM busybox  \nRUN echo a \\\n  # inside\n\n  && echo b\\  \n  c\nCMD x \\",
        expect![[r"
            3-3 from [] busybox
            4-8 run [] echo a   && echo b  c
            9-9 cmd [] x
        "]],
    );
}

#[test]
fn an_escaped_escape_does_not_continue() {
    check(
        "FROM a\nRUN x \\\\\nRUN y",
        expect![[r"
            1-1 from [] a
            2-2 run [] x \\
            3-3 run [] y
        "]],
    );
}

#[test]
fn directives() {
    let syntax = parse("# syntax=docker/dockerfile:1\n# ESCAPE = `\nFROM a\nRUN a `\n b\\").unwrap();
    assert_eq!(syntax.directives, Directives { escape: '`', syntax: Some("docker/dockerfile:1".to_owned()), check: None });
    assert_eq!(syntax.nodes[1].text, "a  b\\");
    // Past the first other comment they are comments.
    assert_eq!(parse("# hello\n# escape=`\nFROM a").unwrap().directives.escape, '\\');
    check(
        "# escape=x\nFROM a",
        expect![[r"
        dockerfile parse error line 1: invalid escape token 'x' does not match ` or \
    "]],
    );
    check(
        "# escape=\\\n# escape=`\nFROM a",
        expect![[r"
        dockerfile parse error line 2: only one escape parser directive can be used
    "]],
    );
}

#[test]
fn flags_end_at_the_first_other_word() {
    check(
        "COPY --from=x --chown=\"a b\" a --link b\nRUN -- --x",
        expect![[r#"
            1-1 copy ["--from=x", "--chown=a b"] a --link b
            2-2 run [] --x
        "#]],
    );
}

#[test]
fn heredocs() {
    check(
        "RUN <<A cat <<-'B'\na $x\nA\n\tb\n\tB\nCOPY <<EOF /x\nEOF\nRUN [\"<<A\"]\nRUN cat <<<A\nONBUILD RUN <<Z\nz\nZ\n",
        expect![[r#"
            1-5 run [] <<A cat <<-'B' <A expand=true "a $x\n"> <B expand=false "b\n">
            6-7 copy [] <<EOF /x <EOF expand=true "">
            8-8 run [] ["<<A"]
            9-9 run [] cat <<<A
            10-12 onbuild [] RUN <<Z <Z expand=true "z\n">
        "#]],
    );
    check(
        "FROM a\nRUN <<EOF\nx\n",
        expect![[r"
        dockerfile parse error line 2: unterminated heredoc
    "]],
    );
}

#[test]
fn nothing_in_it() {
    check(
        "",
        expect![[r"
        file with no instructions
    "]],
    );
    check(
        "# only a comment\n\n",
        expect![[r"
        file with no instructions
    "]],
    );
}

#[test]
fn words_keep_quotes() {
    assert_eq!(split_words(r#"a="b c" d\ e 'f "' g\"#, '\\'), [r#"a="b c""#, r"d\ e", r#"'f "'"#, "g"]);
}

#[test]
fn windows_line_ends() {
    check(
        "FROM a\r\nRUN a \\\r\n  b\r\n",
        expect![[r"
        1-1 from [] a
        2-3 run [] a   b
    "]],
    );
}

proptest! {
    /// Whatever the bytes, there is an answer.
    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&String::from_utf8_lossy(&bytes));
    }

    /// Text made of the language's own pieces reaches deeper than random bytes.
    #[test]
    fn never_panics_on_dockerfile_like_text(pieces in proptest::collection::vec(prop_oneof![
        Just("FROM "), Just("RUN "), Just("COPY "), Just("ONBUILD "), Just("--"), Just("--from="), Just("\\\n"), Just("\n"), Just("<<"),
        Just("<<-'E'"), Just("E\n"), Just("\""), Just("'"), Just("["), Just("]"), Just("# escape=`\n"), Just("`\n"), Just("\t"), Just("é"),
    ], 0..60)) {
        let text: String = pieces.concat();
        if let Ok(syntax) = parse(&text) {
            // Nothing is invented: instructions lie in order within the file.
            let lines = text.lines().count();
            let mut last = 0;
            for node in &syntax.nodes {
                prop_assert!(*node.lines.start() > last && *node.lines.end() <= lines);
                last = *node.lines.end();
            }
        }
    }
}

/// Work is proportional to the text: counted in characters that the parser keeps, not in time.
#[test]
fn output_is_linear_in_the_input() {
    let text = format!("FROM a\nRUN {}\n", "x \\\n".repeat(100_000));
    let syntax = parse(&text).unwrap();
    let kept: usize = syntax.nodes.iter().map(|node| node.text.len() + node.original.len()).sum();
    assert!(kept <= 2 * text.len(), "{kept} bytes kept of {}", text.len());
}
