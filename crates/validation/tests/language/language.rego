package t

import rego.v1

vm := input.vm

modes := {"a", "b"}

list := [3, 1, 2, 3]

obj := {"x": 1, "y": [1, 2], "z": {"k": "v"}}

f(x) := x + 1

g(x) := y if {
	y := x * 2
} else := 0

h(x, y) if x == y

first([head, _]) := head

kind({"kind": k}) := k

named(x) if x.name

size(x) := "big" if {
	x > 10
} else := "mid" if {
	x > 5
} else := "small"

default lit := 7

default d_fn(_) := "none"

d_fn(x) := "found" if x == 1

# undefined in negation
n01 if not input.missing

n02 if not input.missing == 3

n03 if not input.missing != 3

n04 if not input.missing > 3

n05 if not regex.match("x", input.missing)

n06 if not startswith(input.missing, "x")

n07 if not count(input.missing) > 0

n08 if not named(input.missing)

n09 if not input.missing in {1, 2}

n10 if not 1 in input.missing

n11 if not is_string(input.missing)

n12 if not input.vm.name == input.missing

n13 if not input.vm.name == "x"

n14 if not input.vm.name != "web"

n15 if {
	x := input.vm.name
	not x == "other"
}

n16 if not input.vm.off

n17 if not input.vm.on

n18 if not obj[input.missing]

n19 if not obj[input.missing] == 1

n20 if not f(input.missing) == 2

n21 if not input.vm.disks[0].file == lower(input.missing)

n22 if not [input.missing] == [1]

n23 if not {"a": input.missing} == {}

n24 if not named(input.vm)

n25 if not n16

n26 if not data.t.n01

n27 if not data.nothing.here

n28 if not is_string(input.vm.name)

n29 if not is_null(input.vm.nothing)

n30 if not contains(input.vm.name, "w")

n31 if not to_number(input.vm.name) == 3

n32 if {
	not to_number("12") == 13
}

n33 if not count([d | d := input.missing[_]]) > 0

n34 if not count([d | some d in input.vm.disks]) > 5

n35 if not to_number("abc")

n36 if not to_number(input.missing)

n37 if not any_disk

n38 if not input.vm.disks[0] == input.vm.disks[1]

any_disk if input.vm.disks[_].size > 100000

# references and iteration
r01 := [x | x := list[_]]

r02 := {x | x := list[_]}

r03 := {i: x | x := list[i]}

r04 contains i if input.vm.disks[i].size > 15

r05 contains d.file if {
	some d in input.vm.disks
	d.size > 15
}

r06 contains [i, d.file] if some i, d in input.vm.disks

r07 := input.vm.disks[1].file

r08 := input.vm.disks[9].file

r09 := input.vm["name"]

r10 contains k if obj[k]

r11 contains k if some k, 1 in obj

r12 := [v | some v in obj]

r13 := [k | some k, _ in obj]

r14 if "a" in modes

r15 if not "c" in modes

r16 if 3 in list

r17 if "x", 1 in obj

r18 := x if {
	[x, _] = [1, 2]
}

r19 := x if {
	{"x": x, "y": _, "z": _} = obj
}

r20 := x if {
	[x, y] := [1, 2]
	y == 2
}

r21 if modes["a"]

r22 if modes["zz"]

r23 contains m if modes[m]

r24 contains [a, b] if {
	a := list[i]
	b := list[j]
	i < j
	a < b
}

r25 := count({p | walk(obj, [p, _])})

r26 contains p if walk(obj, [p, "v"])

r27 contains x if {
	x = y
	y = z
	z = 5
}

r28 := input.vm.disks[count(input.vm.disks) - 1].file

r29 contains x if {
	some x
	list[x] == 3
}

r30 := data.t.obj.z.k

r31 := {"a": {x | x := list[_]; x > 1}, "b": [y | y := list[_]; y > 1]}

r32 if {
	some d in input.vm.disks
	not d.shared
}

r33 contains msg if {
	some i
	disk := input.vm.disks[i]
	msg := sprintf("disk %d is %s", [i, disk.file])
}

r34 := input.vm.name[0]

r35 if [1, 2][_] == 2

r36 := split("a,b,c", ",")[1]

r37 contains x if x := {1, 2}[_]

r38[k] := v if {
	some k, v in obj
	k != "z"
}

r39[d.file] if some d in input.vm.disks

r40.sub := 5

r41 contains x if some [x, 1] in [[5, 1], [6, 2], [7, 1]]

r42 contains id if some {"id": id} in [{"id": 1}, {"id": 2, "x": 1}]

r43 := list[input.v.onef]

r44 := list[input.v.ones]

r45 := obj.y[0]

# every
e01 if every d in input.vm.disks { d.size > 5 }

e02 if every d in input.vm.disks { d.size > 15 }

e03 if every x in [] { x == 1 }

e04 if every i, x in [0, 1, 2] { i == x }

e05 if every x in input.missing { x == 1 }

e06 if every x in input.v.five { x == 1 }

e07 if every k, v in {"a": "a"} { k == v }

# functions
u01 := f(1)

u02 := g(4)

u03 if h(1, 1)

u04 if h(1, 2)

u05 := first([1, 2])

u06 := first(input.v.three)

u07 := kind({"kind": "K"})

u08 := size(20)

u09 := size(7)

u10 := size(1)

u11 := d_fn(1)

u12 := d_fn(2)

u13 := x if f(1, x)

u14 := f(input.v.a)

u15 := g(input.v.a)

u16 := data.t.f(2)

u17 := d_fn(input.missing)

# values
v01 := 1 + 2 * 3

v02 := (1 + 2) * 3

v03 := 7 / 2

v04 := 8 / 2

v05 := 7 % 3

v06 := 1 / 0

v07 := -7 % 3

v08 := {1, 2} | {2, 3}

v09 := {1, 2} & {2, 3}

v10 := {1, 2} - {2, 3}

v11 := 1 == 1.0

v12 := [1 < 2, "a" < "b", null < 1, "a" > 1, [1] < [2], {} < set(), [] < {}]

v13 := 5 - 3 - 1

v14 := 0.1 + 0.2

v15 := 2.5 * 2

v16 := 9007199254740993

v17 := 10 / 3

v18 := 1e3

v19 := true == input.vm.on

v20 := {"a": 1} == {"a": 1.0}

v21 := [null, true, "x", {"k": set()}]

v22 := "tab\tquote\"uni\u00e9"

v23 := `raw\n`

v24 := 9223372036854775807 + 1

v25 := input.v.a + 1

v26 := {1, 1.0, "1"}

# built-ins
b01 := sprintf("%v %s %d %5d|%-5d|%05d %x %.2f %t %q", ["v", "s", 1, 2, 3, 4, 255, 1.5, true, "q"])

b02 := sprintf("%d %s %v", ["x", 5, [1, "a", {"k": null}]])

b03 := sprintf("%v", [1.5])

b04 := sprintf("%v %v", [1])

b05 := sprintf("%v", [1, 2])

b06 := sprintf("%v %v %v", [{1, 2}, true, null])

b07 := sprintf("100%%", [])

b08 := sprintf("%d", [1.5])

b09 := sprintf("%s", [[1, 2]])

b10 := sprintf("%v", input.v.a)

b11 := sprintf("%v", [input.missing])

b12 := sprintf("%.1f", [3])

b13 := sprintf("%v", [12345678901])

b14 := sprintf("%v", [1e21])

b15 := count("héllo")

b16 := count(input.v.five)

b17 := upper("é")

b18 := trim(" ] x ", "] ")

b19 := trim_left("xxa", "x")

b20 := trim_prefix("abc", "ab")

b21 := substring("hello", 1, 3)

b22 := substring("hello", 1, -1)

b23 := substring("hello", 9, 1)

b24 := indexof("hello", "l")

b25 := indexof("hello", "z")

b26 := concat("-", ["a", "b"])

b27 := concat("-", {"b", "a"})

b28 := replace("aaa", "a", "b")

b29 := split("abc", "")

b30 := format_int(255, 16)

b31 := to_number("1.5")

b32 := to_number("0x10")

b33 := to_number(true)

b34 := round(2.5)

b35 := round(-2.5)

b36 := ceil(1.2)

b37 := floor(-1.2)

b38 := abs(-3)

b39 := max([1, 5, 3])

b40 := min({"b", "a"})

b41 := max([])

b42 := sort([3, "a", 1, null])

b43 := sum([1, 2.5])

b44 := product([2, 3])

b45 := numbers.range(1, 4)

b46 := numbers.range(4, 1)

b47 := array.concat([1], [2])

b48 := array.slice([1, 2, 3, 4], 1, 3)

b49 := array.slice([1, 2, 3], 2, 9)

b50 := array.reverse([1, 2])

b51 := object.get(obj, "x", 0)

b52 := object.get(obj, "nope", 0)

b53 := object.get(obj, ["z", "k"], 0)

b54 := object.get(obj, ["z", "q"], 0)

b55 := object.keys(obj)

b56 := object.remove(obj, ["x"])

b57 := object.filter(obj, ["x"])

b58 := object.union({"a": {"b": 1}}, {"a": {"c": 2}})

b59 := object.union_n([{"a": 1}, {"a": 2}, {"b": 3}])

b60 := regex.match(`^a.*\b`, "abc def")

b61 := regex.match("(", "x")

b62 := regex.find_n("a.", "abacad", 2)

b63 := regex.split(",", "a,b")

b64 := regex.replace("abc", "b(.)", "<$1>")

b65 := regex.find_all_string_submatch_n("a(.)", "abac", -1)

b66 := is_string("x")

b67 := is_string(1)

b68 := is_number("x")

b69 := type_name(set())

b70 := json.marshal({"a": [1, null]})

b71 := json.unmarshal("{\"a\":1}")

b72 := json.unmarshal("{")

b73 := base64.encode("hi")

b74 := glob.match("*.example", [], "a.example")

b75 := semver.compare("1.2.0", "1.10.0")

b76 := time.parse_rfc3339_ns("2020-01-01T00:00:00Z")

b77 := units.parse_bytes("1KiB")

b78 := bits.and(6, 3)

b79 := union({{1}, {2}})

b80 := intersection({{1, 2}, {2, 3}})

b81 := strings.any_prefix_match("abc", ["x", "ab"])

b82 := strings.replace_n({"a": "b"}, "aXa")

b83 := net.cidr_contains("10.0.0.0/8", "10.1.2.3")

b84 := startswith("abc", input.v.five)

b85 := contains("abc", "b")

b86 := endswith("abc", "bc")

b87 := lower("ABC")

b88 := strings.count("cheese", "e")

b89 := object.get(input.missing, "x", 1)

b90 := count({"a": 1})

b91 := hex.encode("ab")

b92 := json.is_valid("[1]")

b93 := numbers.range_step(0, 10, 5)

b94 := is_null(null)

b95 := object.get({"a": null}, "a", 1)

b96 := indexof_n("aXaX", "X")

b97 := trim_space("  x ")

b98 := sprintf("%s has %d", ["a"])

b99 := sprintf("%6.2f|%-8s|%8s|%+d", [3.14159, "ab", "cd", 5])

# with
w01 := x if {
	x := vm.name with input as {"vm": {"name": "other"}}
}

w02 := x if {
	x := count(r04) with input.vm.disks as []
}

w03 if n01 with input as {}

w04 if not n01 with input as {"missing": true}

w05 := x if {
	x := lit with data.t.lit as 9
}

w06 := x if {
	x := data.base.y with data.base as {"y": 3}
}

w07 := x if {
	x := {i | some i in r04} with input as {"vm": {"disks": [{"size": 100}]}}
}

w08 if {
	every case in [1, 2] {
		f(input.n) == case + 1 with input as {"n": case}
	}
}

w09 := [a, b] if {
	a := vm.name
	b := vm.name with input.vm.name as "inner"
}

w10 if vm.name == "q" with input.vm as {"name": "q"}

# with, for functions
small_count(_) := 1

w20 := x if {
	x := count([1, 2, 3]) with count as small_count
}

w21 := x if {
	x := count([1, 2, 3]) with count as 7
}

w22 := x if {
	x := f(1) with f as g
}

longer(xs) := y if {
	y := count(xs) + 10
}

w23 := x if {
	x := longer([1, 2]) with count as small_count
}

w24 := x if {
	x := count([1, 2]) with count as longer
}

w25 if {
	not regex.match("a", "a") with regex.match as false
}

w26 := x if {
	x := [lower("A"), upper("a")] with lower as upper with upper as lower
}

w27 := x if {
	x := longer(input.vm.disks) with count as small_count with input as {"vm": {"disks": [1]}}
}

is_odd_name(_) := true

w28 if {
	is_odd_name("x") with data.t.is_odd_name as startswith_x
}

startswith_x(s) if startswith(s, "x")

w29 if {
	is_odd_name("y") with data.t.is_odd_name as startswith_x
}

# parts of the input
q01 := [type_name(d) | some d in input.vm.disks]

q02 := count(input.vm.disks[0])

q03 if input.vm.disks == input.vm["disks"]

q04 := [k | some k, _ in input.vm.disks[0]]

q05 := object.get(input.vm.disks[0], "size", 0)

q06 if is_object(input.vm.disks[1])

q07 if {
	some d in input.vm.disks
	d != {}
}

q08 := input.vm.disks[i].file if {
	i := count(input.vm.disks) - 1
}

whole(x) := x

q09 := whole(input.vm.disks[2])

q10 if input.vm.disks[0] > 7

q11 := {d | d := input.vm.disks[_]; d.size >= 20}

q12 := [x | walk(input.vm.disks[0], [_, x])]

q13 := input[a][b].size if {
	a := "vm"
	b := "disks"
} else := "none"

q14 := [input.vm[a] | some a in ["name", "on"]]
