//! Writes small databases in MaxMind's format, version 2.0, for tests (<https://maxmind.github.io/MaxMind-DB/>).

use std::net::IpAddr;

use super::super::shared::network;

/// A value of the data section.
pub(super) enum Value {
    Text(&'static str),
    Double(f64),
    U16(u16),
    U32(u32),
    U64(u64),
    List(Vec<Value>),
    Map(Vec<(&'static str, Value)>),
}

const MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";
/// Zeros between tree and data.
const SEPARATOR_OCTETS: usize = 16;

#[derive(Clone, Copy, PartialEq)]
enum Record {
    Nothing,
    Node(usize),
    Data(usize),
}

/// A database of IPv6, IPv4 addresses at `::/96`, with these networks and what is known of each.
pub(super) fn database(kind: &'static str, networks: &[(&str, Value)]) -> Vec<u8> {
    let mut nodes = vec![[Record::Nothing; 2]];
    let mut data = Vec::new();
    for (text, value) in networks {
        let at = data.len();
        encode(value, &mut data);
        insert(&mut nodes, text, at);
    }
    let count = nodes.len();
    let mut octets = Vec::new();
    for record in nodes.iter().flatten() {
        let number = match record {
            Record::Nothing => count,
            Record::Node(node) => *node,
            Record::Data(at) => count + SEPARATOR_OCTETS + at,
        };
        octets.extend(u32::try_from(number).unwrap().to_be_bytes());
    }
    octets.extend([0; SEPARATOR_OCTETS]);
    octets.extend(data);
    octets.extend(MARKER);
    let metadata = Value::Map(vec![
        ("node_count", Value::U32(u32::try_from(count).unwrap())),
        ("record_size", Value::U16(32)),
        ("ip_version", Value::U16(6)),
        ("database_type", Value::Text(kind)),
        ("languages", Value::List(vec![Value::Text("en")])),
        ("binary_format_major_version", Value::U16(2)),
        ("binary_format_minor_version", Value::U16(0)),
        ("build_epoch", Value::U64(1_893_456_000)),
        ("description", Value::Map(vec![("en", Value::Text("made up, for tests"))])),
    ]);
    encode(&metadata, &mut octets);
    octets
}

fn insert(nodes: &mut Vec<[Record; 2]>, text: &str, at: usize) {
    let (ip, bits) = text.split_once('/').unwrap();
    let bits: usize = bits.parse().unwrap();
    // Parsed by others too, so that a test's typing error shows.
    assert!(network::Network::parse(text).is_ok(), "{text}");
    let (address, bits) = match ip.parse().unwrap() {
        IpAddr::V4(ip) => (u128::from(u32::from(ip)), bits + 96),
        IpAddr::V6(ip) => (u128::from(ip), bits),
    };
    let mut node = 0;
    for bit in 0..bits {
        let side = usize::from(address >> (127 - bit) & 1 == 1);
        if bit + 1 == bits {
            nodes[node][side] = Record::Data(at);
            return;
        }
        node = match nodes[node][side] {
            Record::Node(next) => next,
            Record::Nothing => {
                nodes.push([Record::Nothing; 2]);
                let next = nodes.len() - 1;
                nodes[node][side] = Record::Node(next);
                next
            }
            Record::Data(_) => panic!("{text} lies in another network"),
        };
    }
}

/// Control octet: type in the upper three bits (0: in the next octet, less 7), size in the lower five.
fn encode(value: &Value, out: &mut Vec<u8>) {
    let mut head = |kind: u8, size: usize| {
        let small = u8::try_from(size.min(29)).unwrap();
        match kind {
            1..=7 => out.push(kind << 5 | small),
            _ => out.extend([small, kind - 7]),
        }
        if size >= 29 {
            out.push(u8::try_from(size - 29).unwrap());
        }
    };
    match value {
        Value::Text(text) => {
            head(2, text.len());
            out.extend(text.as_bytes());
        }
        Value::Double(number) => {
            head(3, 8);
            out.extend(number.to_be_bytes());
        }
        Value::U16(number) => {
            head(5, 2);
            out.extend(number.to_be_bytes());
        }
        Value::U32(number) => {
            head(6, 4);
            out.extend(number.to_be_bytes());
        }
        Value::U64(number) => {
            head(9, 8);
            out.extend(number.to_be_bytes());
        }
        Value::List(items) => {
            head(11, items.len());
            items.iter().for_each(|item| encode(item, out));
        }
        Value::Map(members) => {
            head(7, members.len());
            for (key, value) in members {
                encode(&Value::Text(key), out);
                encode(value, out);
            }
        }
    }
}
