//! Trees survive being written, and every hostile text is refused by its own rule.

use super::*;

const HOSTILE: &[u8] = b"-?:,[]{}#&*!|>'\"%@` \n\t0a~";

fn parse(text: &str) -> Result<Node, Malformed> {
    Node::parse(text.as_bytes())
}

#[test]
fn a_tree_reads_the_same_after_it_was_written() {
    for text in [
        "",
        "a: 1",
        "a:\n- b\n- c: d\n  e: [f, {g: h}]\n",
        "a: {}\nb: []\nc:\nd: ~\ne: ''\n",
        "- - - a\n    - b\n  -\n- {}\n",
        "a: yes\nb: 0x10\nc: 1e3\nd: 'yes'\ne: \"0x10\"\n",
        "a: |\n  one\n  two\nb: >\n  three\n  four\n\n  five\n",
        "a: one\n  two\n\n  three\n",
        "'a: b': \"c # d\"\n\"\\u2028\\ufeff\\x07\": \"\\t\\\"\\\\\"\n",
        "{a: b, 'c': [d, e], f: {g: }}",
        "url: https://h:1/p?q#r\n'-': '- x'\n'? y': '%z'\n",
        "\"ключ\": значение\n日本: \"語\\U0001F600\"\n",
        "a: !\n",
    ] {
        let Ok(tree) = parse(text) else {
            assert!(text.contains('!'), "{text:?}: {:?}", parse(text));
            continue;
        };
        let written = tree.to_yaml();
        assert_eq!(parse(&written), Ok(tree), "{text:?} became {written:?}");
    }
}

#[test]
fn windows_line_ends_and_the_byte_order_mark_of_utf8_are_read() {
    let tree = Node::parse(b"\xef\xbb\xbfa: b\r\nc:\r\n  - d\r\n").unwrap();
    assert_eq!(tree.to_yaml(), "a: b\nc:\n  - d\n");
}

#[test]
fn a_text_in_another_encoding_is_refused() {
    assert_eq!(Node::parse(b"\xff\xfea\0:\0"), Err(Malformed::Utf16));
    assert_eq!(Node::parse(b"\xfe\xff\0a"), Err(Malformed::Utf16));
    assert_eq!(Node::parse(b"a: \xff"), Err(Malformed::NotUtf8));
    assert_eq!(Node::parse(b"a: b\nc: \0"), Err(Malformed::Control(2)));
    assert_eq!(Node::parse(b"a: \x1b[2J"), Err(Malformed::Control(1)));
}

#[test]
fn an_alias_bomb_is_refused_at_its_first_alias() {
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b]\n";
    assert_eq!(parse(bomb), Err(Malformed::Alias(2)));
    assert!(parse("a: &unused b\n").is_ok(), "an anchor that nobody names changes nothing");
}

#[test]
fn what_readers_disagree_about_is_refused() {
    assert_eq!(parse("a: 1\nb: 2\na: 3\n"), Err(Malformed::Duplicate("a".into(), 3)));
    assert_eq!(parse("a: 1\n\"\\x61\": 2\n"), Err(Malformed::Duplicate("a".into(), 2)));
    assert_eq!(parse("<<: {a: b}\n"), Err(Malformed::Merge(1)));
    assert_eq!(parse("a: !!binary eA==\n"), Err(Malformed::Tag(1)));
    assert_eq!(parse("a: !!python/object:os.system x\n"), Err(Malformed::Tag(1)));
    assert_eq!(parse("a: b\n---\nc: d\n"), Err(Malformed::Documents(2)));
    assert_eq!(parse("? [a, b]\n: c\n"), Err(Malformed::Key(1)));
    assert_eq!(parse("? {a: b}\n: c\n"), Err(Malformed::Key(1)));
    assert_eq!(parse(": c\n"), Err(Malformed::Key(1)));
    assert_eq!(parse(&format!("? {}\n: c\n", "k".repeat(2000))), Err(Malformed::Key(1)));
}

#[test]
fn broken_syntax_is_refused_with_its_line() {
    for text in
        ["a:\n\tb: c\n", "a: b\n c: d\n", "a: [b\n", "a: \"b\n", "a: {b: c\n", "a: b: c\n", "]"]
    {
        assert!(matches!(parse(text), Err(Malformed::Syntax(..))), "{text:?}: {:?}", parse(text));
    }
}

#[test]
fn depth_and_size_are_bounded() {
    for open in ["[", "{a: ", "- "] {
        let deep = open.repeat(100_000);
        // The parser's own limit for flow style may come first: it looks ahead for the key's colon.
        assert!(
            matches!(parse(&deep), Err(Malformed::Deep(1) | Malformed::Syntax(_, 1))),
            "{open:?}"
        );
    }
    assert_eq!(parse(&"- a\n".repeat(YAML_NODES_MAX)), Err(Malformed::Large));
    let nested = format!("{}{}", "[".repeat(YAML_DEPTH_MAX), "]".repeat(YAML_DEPTH_MAX));
    let tree = parse(&nested).unwrap();
    assert_eq!(parse(&tree.to_yaml()), Ok(tree));
}

#[test]
fn plain_words_mean_what_any_reader_takes_them_for() {
    for (text, meaning) in [
        ("~", Meaning::Null),
        ("Yes", Meaning::Bool(true)),
        ("off", Meaning::Bool(false)),
        ("12", Meaning::Number),
        ("-0x1F", Meaning::Number),
        ("1_000.5e+3", Meaning::Number),
        (".inf", Meaning::Number),
        ("12:30:45", Meaning::Number),
        ("10.0.0.1-node", Meaning::Text("10.0.0.1-node")),
        ("edge-7", Meaning::Text("edge-7")),
    ] {
        assert_eq!(Scalar::plain(text).meaning(), meaning, "{text}");
        assert_eq!(Scalar::text(text).meaning(), Meaning::Text(text));
    }
}

#[test]
fn no_mutilated_text_makes_it_panic_or_lose_its_meaning() {
    let seed: &[u8] =
        b"a: &x [1, 'b', \"c\\n\"]\nd:\n  - e: |\n      f\n  - {g: h, i: }\n? j\n: k\n";
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    for _ in 0..20_000 {
        let mut text = seed.to_vec();
        for _ in 0..=random(4) {
            let at = random(text.len());
            match random(3) {
                0 => text[at] = HOSTILE[random(HOSTILE.len())],
                1 => {
                    text.remove(at);
                }
                _ => text.insert(at, HOSTILE[random(HOSTILE.len())]),
            }
        }
        if let Ok(tree) = Node::parse(&text) {
            let written = tree.to_yaml();
            let shown = String::from_utf8_lossy(&text);
            assert_eq!(parse(&written), Ok(tree), "{shown:?} became {written:?}");
        }
    }
}
