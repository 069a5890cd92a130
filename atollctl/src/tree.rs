//! A tree in the terminal.

/// A line with the lines below it.
pub(crate) struct Tree {
    line: String,
    children: Vec<Tree>,
}

impl Tree {
    pub(crate) fn new(line: impl Into<String>) -> Self {
        Self { line: line.into(), children: Vec::new() }
    }

    pub(crate) fn with(mut self, children: impl IntoIterator<Item = Tree>) -> Self {
        self.children.extend(children);
        self
    }

    /// As text.
    pub(crate) fn draw(&self) -> String {
        let mut text = format!("{}\n", self.line);
        self.below("", &mut text);
        text
    }

    fn below(&self, indent: &str, text: &mut String) {
        for (n, child) in self.children.iter().enumerate() {
            let last = n + 1 == self.children.len();
            text.push_str(indent);
            text.push_str(if last { "└─ " } else { "├─ " });
            text.push_str(&child.line);
            text.push('\n');
            child.below(&format!("{indent}{}", if last { "   " } else { "│  " }), text);
        }
    }
}
