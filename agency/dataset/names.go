package dataset

import "strings"

// The names are roughly ordered by how common they are: the first ones are drawn more often. No
// name may contain what CSV or the protocol treats specially (comma, quote, |, control characters).
// Changing, adding or moving a name changes every dataset; the package comment says what to do
// then.

// givenNames holds women's and men's names.
var givenNames = [2][]string{
	split(`María, Ana, Juana, Lucía, Sofía, Rosa, Marta, Silvia, Graciela, Susana,
		Patricia, Mónica, Claudia, Andrea, Gabriela, Verónica, Carolina, Paula, Florencia,
		Camila, Valentina, Martina, Julieta, Micaela, Agustina, Rocío, Belén, María José,
		María Belén, María del Carmen, Ana María, María Eugenia, María Inés, Cecilia,
		Laura, Natalia, Romina, Soledad, Mariana, Victoria, Daniela, Noelia, Lorena,
		Alejandra, Sandra, Liliana, Norma, Beatriz, Alicia, Elena, Teresa, Inés, Ángela,
		Ángeles, Milagros, Antonella, Brenda, Ailén, Abril, Malena, Delfina, Catalina,
		Josefina, Emilia, Elisa, Estela, Gladys, Mirta, Nélida, Zulma, Celia, Irene,
		Raquel, Noemí, Débora, Jésica, Yésica, Tamara, Luz, Sol, Luz María, Azul, Aldana,
		Candela, Pilar, Guadalupe, Jazmín, Zoé, Renata, Begoña, Íngrid, Úrsula, Nahir,
		Ayelén, Rayén, Lihuén, Anahí, Yanina, Eluney, Ñusta`),
	split(`Juan, José, Carlos, Jorge, Luis, Miguel, Roberto, Daniel, Eduardo, Ricardo,
		Oscar, Héctor, Alberto, Raúl, Mario, Pablo, Diego, Martín, Sebastián, Gustavo,
		Fernando, Marcelo, Sergio, Alejandro, Juan Carlos, José Luis, Juan Manuel, Juan Cruz,
		Juan Pablo, Nicolás, Matías, Santiago, Facundo, Agustín, Joaquín, Tomás, Lucas,
		Franco, Gonzalo, Ezequiel, Maximiliano, Leandro, Cristian, Hernán, Federico, Javier,
		Germán, Mariano, Ramón, Julián, Andrés, Rubén, Ángel, Víctor, Néstor, Hugo, Omar,
		Walter, Claudio, Fabián, Adrián, Gabriel, Guillermo, Rodolfo, Enrique, Francisco,
		Antonio, Manuel, Pedro, Lautaro, Thiago, Bautista, Benjamín, Felipe, Ignacio, Bruno,
		Valentín, Emiliano, Ramiro, Rodrigo, Leonel, Lionel, Nahuel, Brian, Kevin, Elías,
		Isaías, Moisés, Ezequías, Damián, Darío, Iván, César, Félix, Simón, Efraín, Osvaldo,
		Anselmo, Íñigo, Ñamandú`),
}

var familyNames = split(`González, Rodríguez, Gómez, Fernández, López, Díaz, Martínez, Pérez,
	García, Sánchez, Romero, Sosa, Álvarez, Torres, Ruiz, Ramírez, Flores, Acosta, Benítez,
	Medina, Suárez, Herrera, Aguirre, Pereyra, Gutiérrez, Giménez, Molina, Silva, Castro,
	Rojas, Ortiz, Núñez, Luna, Juárez, Cabrera, Ríos, Ferreyra, Godoy, Morales, Domínguez,
	Moreno, Peralta, Vega, Carrizo, Quiroga, Castillo, Ledesma, Muñoz, Ojeda, Ponce, Vera,
	Vázquez, Villalba, Cardozo, Navarro, Ramos, Arias, Coronel, Córdoba, Figueroa, Correa,
	Cáceres, Vargas, Maldonado, Mansilla, Farías, Rivero, Paz, Miranda, Roldán, Méndez, Lucero,
	Cruz, Hernández, Agüero, Páez, Blanco, Mendoza, Barrios, Escobar, Ávila, Soria, Leiva,
	Acuña, Martín, Maidana, Moyano, Campos, Olivera, Duarte, Soto, Franco, Bravo, Valdez, Toledo,
	Andrada, Velázquez, Montenegro, Leguizamón, Chávez, Arce, Peña, Ibáñez, Zárate, Zúñiga,
	Argüello, Güemes, Bustos, Ocampo, Bordón, Galván, Guzmán, Britos, Báez, Marín, Piñeiro,
	Patiño, Quiñones, Avendaño, Cañete, Fariña, Ordóñez, Yáñez, Rossi, Russo, Ferrari, Bianchi,
	Esposito, Romano, Colombo, Ricci, Marino, Greco, Bruno, Gallo, Conti, De Luca, Costa,
	Giordano, Mancini, Rizzo, Lombardi, Moretti, Di Marco, Di Pietro, De la Fuente, De la Cruz,
	De los Santos, Del Valle, San Martín, Santa Cruz, Schmidt, Müller, Wagner, Schneider,
	Kowalski, Etcheverry, Echeverría, Goñi, Iñíguez, Urquiza, Irigoyen, Arregui, Olazábal,
	Bilbao, Saadi, Nazar, Abdala, Haddad, Levy, Cohen, Nakamura, Higa, Quispe, Mamani, Condori,
	Choque, Huanca, Ñancucheo, Huenchumán, Catrileo, Antileo, D'Angelo, D'Amico, D'Elía, O'Farrell,
	O'Donnell, Dell'Oca, Öhlund, Ünal`)

// split splits a list at its commas and removes line ends, so that the lists above can be wrapped.
func split(list string) []string {
	names := strings.Split(list, ",")
	for i, name := range names {
		names[i] = strings.TrimSpace(name)
	}
	return names
}

func isCompound(name string) bool { return strings.IndexByte(name, ' ') >= 0 }
