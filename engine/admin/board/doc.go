// Package board is the page on which a room full of people watches a draw, and what is shown on it.
//
// A [State] is what a server knows of its draw at one moment. [Handler] serves the page, which
// follows the states that a server sends, and [Write] makes a page of one state that needs no server.
// The page is plain HTML, CSS and one module of JavaScript, in Spanish and English.
package board
