use super::*;

/// Shows what is being typed at `│`: the path, the word, and what else is special.
fn cursor(text: &str) -> String {
    let offset = text.find('│').expect("the text has a cursor");
    let text = text.replace('│', "");
    let Some(cursor) = Cursor::at(&text, offset) else { return "comment".to_owned() };
    let mut shown = shown(&cursor.path);
    shown.extend([" <", &text[cursor.prefix], ">"]);
    for (is_so, word) in [(cursor.is_after_key, " value"), (cursor.is_flow, " flow"), (cursor.is_text, " text")] {
        shown.push_str(if is_so { word } else { "" });
    }
    shown
}

fn shown(path: &[Step]) -> String {
    let steps = path.iter().map(|step| match step {
        Step::Key(name) => name.as_str(),
        Step::Item => "-",
    });
    format!("/{}", steps.collect::<Vec<_>>().join("/"))
}

#[test]
fn the_cursor_is_found_in_blocks() {
    for (text, expected) in [
        ("│", "/ <>"),
        ("sta│", "/ <sta>"),
        ("job:\n  │", "/job <>"),
        ("job:\n  scr│", "/job <scr>"),
        ("job:\n  when: man│", "/job/when <man> value"),
        ("job:\n  when: │\n  script: x\n", "/job/when <> value"),
        ("job:\n  when:\n    man│", "/job/when <man>"),
        ("job:\n  needs:\n    - bu│", "/job/needs/- <bu>"),
        ("job:\n  needs:\n  - │", "/job/needs/- <>"),
        ("job:\n  needs:\n    - job: b\n      opt│", "/job/needs/- <opt>"),
        ("job:\n  needs:\n    - job: b│", "/job/needs/-/job <b> value"),
        ("job:\n  rules:\n    - if: $A\n    - wh│", "/job/rules/- <wh>"),
        ("job:\n  script: |\n    make\n    b│", "/job/script <> text"),
        ("job:\n  script:\n    - make\n│", "/ <>"),
        ("job:\n  # com│", "comment"),
        ("job:\n  stage: a # com│", "comment"),
        ("\"a job\":\n  sta│", "/a job <sta>"),
        ("job: &anchor\n  sta│", "/job <sta>"),
        ("a:\n  b: [x\nc:\n  sta│", "/c <sta>"),
        ("a:\n  b: \"x\nc:\n  sta│", "/c <sta>"),
        ("spec:\n  inputs:\n---\njob:\r\n  sta│", "/job <sta>"),
    ] {
        assert_eq!(cursor(text), expected, "{text}");
    }
}

#[test]
fn the_cursor_is_found_in_brackets() {
    for (text, expected) in [
        ("job: {│", "/job <> value flow"),
        ("job: {scr│", "/job <scr> value flow"),
        ("job: {when: m│}", "/job/when <m> value flow"),
        ("job: {script: [a, b], when: │", "/job/when <> value flow"),
        ("job:\n  needs: [│]", "/job/needs/- <> value flow"),
        ("job:\n  needs: [a, b│]", "/job/needs/- <b> value flow"),
        ("job:\n  needs: [{job: a, opt│}]", "/job/needs/- <opt> value flow"),
        ("job:\n  needs: [\n    a,\n    b│", "/job/needs/- <b> flow"),
        ("job:\n  script: !reference [.a, scr│]", "/job/script/- <scr> value flow"),
    ] {
        assert_eq!(cursor(text), expected, "{text}");
    }
}

#[test]
fn keys_and_values_have_their_places() {
    let text = "a:\n  needs: [b, 'c d']\n  extends: .x\nb: {script: make}\n";
    let outline = Outline::read(text);
    let shown: Vec<String> = outline
        .marks()
        .iter()
        .enumerate()
        .map(|(index, mark)| {
            format!("{} {}", shown(&outline.path(index)), mark.value.clone().map_or("", |value| &text[value])).trim().to_owned()
        })
        .collect();
    assert_eq!(shown, ["/a", "/a/needs", "/a/needs/- b", "/a/needs/- c d", "/a/extends .x", "/b", "/b/script make"]);
    let at = outline.at(text.find("c d").expect("it is there") + 1).expect("a mark");
    assert_eq!(outline.path(at).len(), 3);
    assert_eq!(outline.child(None, "b"), Some(5));
}

#[test]
fn no_prefix_of_a_text_is_too_much() {
    let text = "a: &x\n  b: [c, {d: \"é\", 'f': !t g}, \"\n  - - h: |\n   i\n{]}: :\n? k\n\t- ü: {ß";
    for offset in (0..=text.len()).filter(|offset| text.is_char_boundary(*offset)) {
        let cursor = Cursor::at(text, offset);
        assert!(cursor.is_none_or(|cursor| cursor.prefix.end == offset));
    }
}
