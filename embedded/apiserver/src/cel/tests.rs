//! Expressions, what they give, and what is refused.

use super::*;

fn eval(source: &str) -> String {
    let program = match Program::compile(source, &[("x", Type::Dyn)]) {
        Ok(program) => program,
        Err(why) => return why,
    };
    let json = serde_json::json!({"a": 1, "list": [3, 1, 2], "s": "text", "m": {"k": "v"}});
    match program.run(&[("x", Value::from_json(&json))], &mut Budget::new(u64::MAX)) {
        Ok(value) => format!("{value:?}"),
        Err(why) => format!("error: {why}"),
    }
}

/// Each line holds.
#[test]
fn what_the_language_and_its_libraries_say() {
    let holds = r#"
        1 + 2 * 3 == 7 && -(2) == -2 && 7 / 2 == 3 && 7 % 3 == 1 && 1 < 2u && 1.5 > 1
        'a' + "b" == 'ab' && r'\d' == '\\d' && '\u00e9'.size() == 1 && b'ab' == bytes('ab')
        [1, 2] + [3] == [1, 2, 3] && 2 in [1, 2] && 'a' in {'a': 1} && {'a': 1}['a'] == 1
        x.a == 1 && has(x.a) && !has(x.b) && x.list[1] == 1 && x.m.k == 'v' && type(x.a) == int
        x.list.all(i, i > 0) && x.list.exists(i, i == 3) && x.list.exists_one(i, i == 3)
        x.list.map(i, i * 2) == [6, 2, 4] && x.list.filter(i, i > 1) == [3, 2] && x.list.map(i, i > 1, i) == [3, 2]
        x.list.all(i, v, v == x.list[i]) && {'a': 1}.transformMap(k, v, v + 1) == {'a': 2} && [1].transformList(i, v, i) == [0]
        (false && 1 / 0 == 1) == false && (1 / 0 == 1 || true) && [1, 0].exists(i, 1 / i == 1)
        x.?b.orValue(5) == 5 && x.?a.optMap(v, int(v) + 1) == optional.of(2) && x[?'zz'].hasValue() == false
        'Hello'.lowerAscii() == 'hello' && 'a,b'.split(',') == ['a', 'b'] && ['a', 'b'].join('-') == 'a-b' && ' x '.trim() == 'x'
        'hello'.substring(1, 3) == 'el' && 'hello'.indexOf('l') == 2 && 'hello'.lastIndexOf('l') == 3 && 'hello'.charAt(1) == 'e'
        'hello'.replace('l', 'L') == 'heLLo' && 'hello'.replace('l', 'L', 1) == 'heLlo' && 'abc'.matches('^a.c$')
        'a1b22'.find('[0-9]+') == '1' && 'a1b22'.findAll('[0-9]+') == ['1', '22'] && 'a1b22'.findAll('[0-9]+', 1) == ['1']
        [1, 2, 3].isSorted() && [1, 2].sum() == 3 && [3, 1].min() == 1 && [3, 1].max() == 3 && [1, 2, 1].indexOf(1) == 0 && [1, 2, 1].lastIndexOf(1) == 2
        sets.contains([1, 2, 3], [2]) && sets.equivalent([1, 2], [2, 1, 1]) && !sets.intersects([1], [2])
        url('https://user@example.com:8443/a%20b?x=1&x=2#f').getHostname() == 'example.com' && url('https://h:1/p').getPort() == '1'
        url('https://example.com/a?x=1&x=2').getQuery()['x'] == ['1', '2'] && isURL('/path') && !isURL('path') && url('http://[::1]:80/').getHostname() == '::1'
        quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('100m').add(quantity('900m')).asInteger() == 1 && !isQuantity('1x')
        quantity('50k').compareTo(quantity('50000')) == 0 && quantity('1.5').sub(1).asApproximateFloat() == 0.5 && quantity('-2').sign() == -1
        ip('10.0.0.1').family() == 4 && isIP('::1') && !isIP('1.2.3') && ip('127.0.0.1').isLoopback() && ip.isCanonical('::1') && !ip.isCanonical('0:0::1')
        cidr('10.0.0.0/8').containsIP('10.1.2.3') && cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && isCIDR('::/0')
        '%s has %d of %.2f, %x'.format(['x', 3, 1.5, 255]) == 'x has 3 of 1.50, ff' && '%s'.format([[1, 2]]) == '[1, 2]'
        timestamp('2024-01-02T03:04:05Z').getFullYear() == 2024 && timestamp('2024-01-02T03:04:05Z').getHours('+02:00') == 5
        duration('1h30m') == duration('90m') && timestamp('2024-01-01T00:00:00Z') + duration('24h') == timestamp('2024-01-02T00:00:00Z')
        string(duration('90s')) == '90s' && int('5') == 5 && double('1.5') == 1.5 && string(1.0) == '1' && bool('true') && int(2.9) == 2
        semver('1.2.3').isLessThan(semver('1.10.0')) && isSemver('1.0.0-rc.1') && semver('v1.2', true).minor() == 2
        !format.dns1123Label().validate('ok').hasValue() && format.named('uuid').value().validate('x').hasValue() && 'a"b' != strings.quote('a"b')
        dyn(1) == 1.0 && {1: 'a'}[1] == 'a' && null == null && x.s != null && 9223372036854775807 > 0 && -9223372036854775808 < 0
        true ? 1 == 1 : false // with a comment
    "#;
    for line in holds.lines().map(str::trim).filter(|l| !l.is_empty()) {
        assert_eq!(eval(line), "Bool(true)", "{line}");
    }
}

#[test]
fn what_fails_says_why() {
    let cases = [
        ("1 / 0", "error: division by zero"),
        ("x.nope", "error: no such key: nope"),
        ("x.list[9]", "error: index out of bounds: 9"),
        ("9223372036854775807 + 1", "error: integer overflow"),
        ("x.s + 1", "error: no such overload"),
        ("nope", "ERROR: <input>:1:1: undeclared reference to 'nope' (in container '')\n | nope\n | ^"),
        (
            "1 + 'a'",
            "ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'\n | 1 + 'a'\n | ..^",
        ),
        (
            "'a'.size(1)",
            "ERROR: <input>:1:9: found no matching overload for 'size' applied to 'string.(int)'\n | 'a'.size(1)\n | ........^",
        ),
        ("[1, 'a']", "ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a']\n | ....^"),
    ];
    for (source, wanted) in cases {
        assert_eq!(eval(source), wanted, "{source}");
    }
    assert!(eval("1 +").contains("Syntax error: mismatched input '<EOF>'"), "{}", eval("1 +"));
    for deep in [format!("1{}", " + 1".repeat(1000)), format!("x{}", ".a".repeat(1000))] {
        assert!(eval(&deep).contains("recursion limit"), "{}", eval(&deep));
    }
    assert_eq!(eval(&format!("true{}", " && true".repeat(5000))), "Bool(true)");
    assert!(eval(&"(".repeat(1000)).contains("recursion limit"), "{}", eval(&"(".repeat(1000)));
}

#[test]
fn nothing_runs_for_ever() {
    let loops = "[0,1,2,3,4,5,6,7,8,9]".to_string();
    let nested = (0..12).fold("true".to_string(), |inner, n| format!("{loops}.all(v{n}, {inner})"));
    assert_eq!(eval(&nested), "error: operation cancelled: actual cost limit exceeded");
    let doubled = (0..40).fold("['aaaaaaaaaa']".to_string(), |inner, n| format!("{inner}.map(v{n}, v{n} + v{n})"));
    assert_eq!(eval(&doubled), "error: operation cancelled: actual cost limit exceeded");
}
