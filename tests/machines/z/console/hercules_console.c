// SPDX-License-Identifier: GPL-2.0
/*
 * Kernel console of the `z` machine: each line goes to Hercules as a panel command (`msgnoh`,
 * through diagnose 8), which writes it to its log at once.
 *
 * The consoles that Hercules emulates lose text: of an SCLP write it prints the first line, of a
 * 3215 write the first 150 bytes. This one is complete, also in a panic, and begins with what was
 * logged before it was loaded.
 */
#include <linux/console.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/string.h>
#include <asm/cpcmd.h>

/* What the harness knows these lines by. `k` is the addressee that the command wants. */
#define COMMAND		"msgnoh k kernel: "
#define COMMAND_LENGTH	(sizeof(COMMAND) - 1)
/* What cpcmd() takes. */
#define LONGEST		240

/* Guarded by the console lock. */
static char command[LONGEST + 1] = COMMAND;

static void write_piece(const char *text, size_t length)
{
	memcpy(command + COMMAND_LENGTH, text, length);
	command[COMMAND_LENGTH + length] = '\0';
	cpcmd(command, NULL, 0, NULL);
}

static void write_line(const char *text, size_t length)
{
	while (length) {
		size_t piece = min_t(size_t, length, LONGEST - COMMAND_LENGTH);

		write_piece(text, piece);
		text += piece;
		length -= piece;
	}
}

static void write_text(struct console *console, const char *text, unsigned int count)
{
	const char *end = text + count;

	while (text < end) {
		const char *newline = memchr(text, '\n', end - text);
		const char *stop = newline ?: end;

		write_line(text, stop - text);
		text = stop + 1;
	}
}

static struct console hercules_console = {
	.name	= "hercules",
	.write	= write_text,
	.flags	= CON_PRINTBUFFER | CON_ENABLED,
};

static int __init hercules_console_init(void)
{
	register_console(&hercules_console);
	return 0;
}

static void __exit hercules_console_exit(void)
{
	unregister_console(&hercules_console);
}

module_init(hercules_console_init);
module_exit(hercules_console_exit);
MODULE_DESCRIPTION("Kernel console in the log of Hercules");
MODULE_LICENSE("GPL");
